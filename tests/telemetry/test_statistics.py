"""The bytes of rollups: whatever the numbers, all of them come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.store import statistics
from telemetry.store.charging import charged
from telemetry.store.statistics import ENERGY, Field, RollupCorrupt, Wanted

T0 = 1_800_000_000_000
_GAUGE = (Field.COUNT, Field.SUM, Field.MINIMUM, Field.MAXIMUM, Field.LAST)
_COUNTER = (Field.COUNT, Field.LAST, Field.INCREASE, Field.GREW)
_STATE = (Field.COUNT, Field.LAST)
_ENERGY = (Field.MEASURED_MILLIJOULES, Field.ESTIMATED_MILLIJOULES, Field.COVERED_MILLISECONDS)


@st.composite
def bodies(draw, n=None):
    """Statistics of some devices, each with some of the metrics."""
    n = n or draw(st.integers(1, 70))
    keys = []
    for device in draw(st.sets(st.integers(1, 2**40), min_size=1, max_size=9)):
        for number, fields in ((10, _GAUGE), (13, _COUNTER), (ENERGY, _ENERGY)):
            if draw(st.integers(0, 4)):
                keys += [(number, field, 0, device) for field in fields]
        values = draw(st.sets(st.integers(-(2**50), 2**50), max_size=3))
        keys += [(19, field, 0, device) for field in _STATE]
        keys += [(19, Field.MILLISECONDS, value, device) for value in values]
    shape = (len(keys), n)
    some = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([1, 100, 2**20, 2**60]))
    found = some.integers(-size, size, shape) * draw(st.sampled_from([1, 100]) if size < 2**50 else st.just(1))
    found[some.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = 0
    return statistics.ordered(np.array(keys, np.int64), found, T0, 60_000)


def same(left, right):
    return (left.keys.table == right.keys.table).all() and (left.values == right.values).all()


@settings(deadline=None)  # a cold cache takes its time
@given(bodies(n=1))
def test_one_bucket_comes_back(found):
    assert same(statistics.decode(statistics.encode_fresh(found), T0, 60_000), found)


@settings(deadline=None)  # a cold cache takes its time
@given(bodies())
def test_many_buckets_come_back(found):
    assert same(statistics.decode(statistics.encode_joined(found), T0, 60_000), found)


@pytest.mark.parametrize("encode", [statistics.encode_fresh, statistics.encode_joined])
def test_a_bucket_of_which_nothing_is_known_comes_back(encode):
    nothing = statistics.ordered(np.empty((0, 4), np.int64), np.empty((0, 1), np.int64), T0, 60_000)

    assert same(statistics.decode(encode(nothing), T0, 60_000), nothing)


@settings(deadline=None)  # a cold cache takes its time
@given(bodies(), st.sets(st.sampled_from([10, 13, 19, ENERGY, 99])), st.none() | st.sets(st.sampled_from(Field)))
def test_some_metrics_and_fields_are_read_without_the_others(found, numbers, fields):
    rows = np.isin(found.keys.numbers, list(numbers))
    rows &= fields is None or np.isin(found.keys.fields, list(fields or ()))
    wanted = Wanted(frozenset(numbers), None if fields is None else frozenset(map(int, fields)))

    part = statistics.decode(statistics.encode_joined(found), T0, 60_000, wanted)

    assert (part.values == found.values[rows]).all()
    assert (part.keys.table == found.keys.table[rows]).all()


@pytest.mark.parametrize("encode", [statistics.encode_fresh, statistics.encode_joined])
def test_bytes_that_were_changed_are_told(encode):
    keys = np.array([(10, field, 0, 7) for field in _GAUGE], np.int64)
    body = bytearray(encode(statistics.ordered(keys, np.arange(5, dtype=np.int64)[:, None] * 1000, T0, 60_000)))
    body[-6] ^= 1

    with pytest.raises(RollupCorrupt):
        statistics.decode(bytes(body), T0, 60_000)


def test_a_version_that_is_not_known_is_told():
    with pytest.raises(RollupCorrupt, match="version 9"):
        statistics.decode(b"\x09" + bytes(20), T0, 60_000)


@pytest.mark.parametrize("start_ms", range(-90_000, 400_000, 30_000))
@pytest.mark.parametrize("length_ms", [0, 30_000, 60_000, 150_000, 600_000])
def test_a_part_holds_the_buckets_that_begin_in_its_time(start_ms, length_ms):
    whole = statistics.ordered(np.array([[1, Field.COUNT, 0, 7]]), np.arange(5).reshape(1, 5), 0, 60_000)
    part = whole.between(start_ms, start_ms + length_ms)
    inside = (start_ms <= whole.starts_ms) & (whole.starts_ms < start_ms + length_ms)

    assert part.values.tolist() == whole.values[:, inside].tolist()
    assert part.starts_ms.tolist() == whole.starts_ms[inside].tolist()


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 2))
def test_what_a_host_is_charged_for_is_the_same_alone_and_among_others(seed, n_devices, n_meters):
    random = np.random.default_rng(seed)
    n = n_devices + n_meters
    joules, covered = random.integers(0, 1000, (n, 6)), random.integers(0, 3, (n, 6)) * 1800
    is_node = np.arange(n) >= n_devices
    alone = charged(joules, covered, is_node, np.zeros(n, np.int64))
    nothing = np.zeros((1, 6), np.int64)
    among = charged(
        np.concatenate((joules, nothing)), np.concatenate((covered, nothing)), np.arange(n + 1) >= n_devices,
        np.append(np.zeros(n, np.int64), 1),
    )  # fmt: skip

    assert [each.tolist() for each in alone] == [each.tolist() for each in among]
