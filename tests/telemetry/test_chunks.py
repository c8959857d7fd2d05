"""Bytes of a device's hour: nothing is lost, one metric is read alone, damage is found."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.bench.signals import METRICS, Signals
from telemetry.catalog import BY_NAME
from telemetry.store import chunks, packing
from telemetry.store.chunks import ChunkCorrupt, DeviceHour, Series, Stretch

DATA = Path(__file__).parent.parent / "data"
T0 = 1_799_996_400_000
EPOCHS = ["0" * 31 + "1", "f" * 32]

integers = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))


def series(*elements):
    return st.lists(st.one_of(*elements), min_size=1, max_size=300).map(lambda values: np.array(values, np.int64))


@st.composite
def hours(draw):
    n_ticks = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    stretches = tuple(
        Stretch(draw(st.sampled_from(EPOCHS)), draw(st.integers(0, 9)), draw(st.sampled_from([0.1, 1.0, 7.3])), n)
        for n in n_ticks
    )
    n = sum(n_ticks)
    times = np.array(draw(st.lists(st.integers(0, 2**50), min_size=n, max_size=n)), np.int64)
    found = {}
    for number in draw(st.sets(st.integers(0, 65_535), max_size=5)):
        present = np.flatnonzero(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        ticks = None if present.size in {0, n} else present
        values = draw(st.lists(integers, min_size=n, max_size=n))
        found[number] = Series(ticks, np.array(values, np.int64)[: n if ticks is None else ticks.size])
    return DeviceHour(stretches, times, found)


def assert_same(one, other):
    assert one.stretches == other.stretches
    assert one.times_ms.tolist() == other.times_ms.tolist()
    assert one.series.keys() == other.series.keys()
    for number, expected in one.series.items():
        found = other.series[number]
        assert found.steps.tolist() == expected.steps.tolist()
        assert (found.ticks is None) == (expected.ticks is None)
        assert found.ticks is None or found.ticks.tolist() == expected.ticks.tolist()


def realistic(n_ticks=3600):
    jitter = np.random.default_rng(1).integers(-1, 2, n_ticks)
    steps = Signals(1, 1).advance(n_ticks)[:, 0]
    found = {BY_NAME[name].number: Series(None, row) for name, row in zip(METRICS, steps, strict=True)}
    times = T0 + 1000 * np.arange(n_ticks) + jitter
    return DeviceHour((Stretch(EPOCHS[0], 0, 1.0, n_ticks),), times, found)


def golden():
    """An hour with every way of writing a series, two clocks, and one series with gaps."""
    at = np.arange(400)
    noise = at * 2_654_435_761 % 2**32
    found = {
        1: Series(None, np.full(400, 7)),
        2: Series(None, at // 100 * 40),
        3: Series(None, noise >> 12),
        4: Series(None, np.resize([5, 90, 7, 33, 60, 12, 250, 90, 1], 400) * 15),
        5: Series(at[::7], -noise[::7].cumsum()),
        6: Series(None, np.cumsum(noise >> 31)),
    }
    times = np.concatenate([T0 + 1000 * at[:300] + noise[:300] % 3, T0 + 250_000 + 500 * at[:100]])
    return DeviceHour((Stretch(EPOCHS[0], 0, 1.0, 300), Stretch(EPOCHS[1], 2, 0.5, 100)), times, found)


@given(series(integers) | series(st.integers(0, 300)) | series(st.sampled_from([0, 0, 0, 7_000])))
def test_a_series_of_any_integers_comes_back(values):
    assert packing.unpack(packing.pack(values), values.size).tolist() == values.tolist()


@pytest.mark.parametrize("bits", [3, 8, 12, 20, 40])
def test_what_moves_at_every_sample_comes_back_however_wide(bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, 3600)
    for each in (values, values.cumsum(), np.repeat(values, 30)):
        assert packing.unpack(packing.pack(each), each.size).tolist() == each.tolist()


@given(hours())
@settings(deadline=None)
def test_an_hour_comes_back_as_it_was(hour):
    assert_same(hour, chunks.decode(chunks.encode(hour)))


def test_a_chunk_of_version_1_is_read_for_ever():
    body = bytes.fromhex((DATA / "chunk_v1.hex").read_text())
    hour = golden()
    assert_same(hour, chunks.decode(body))
    assert {packing.pack(each.steps).way for each in hour.series.values()} == {0, 1, 2, 3}


def test_a_metric_is_read_alone():
    hour = realistic(600)
    found = chunks.decode(chunks.encode(hour), {10, 13})
    assert sorted(found.series) == [10, 13]
    assert found.series[13].steps.tolist() == hour.series[13].steps.tolist()


def test_an_hour_of_a_working_gpu_takes_less_than_its_demand():
    """VictoriaMetrics 1.79 keeps the same mix of 25 metrics in 0.86 bytes a value (bench ingest prints both)."""
    hour = realistic()
    assert len(chunks.encode(hour)) / hour.n_values < 0.8


def test_times_and_clock_cost_next_to_nothing():
    hour = realistic()
    lone = DeviceHour(hour.stretches, hour.times_ms, {})
    assert len(chunks.encode(lone)) / hour.n_values < 0.01


@given(st.integers(0, 10_000), st.integers(0, 7))
@settings(deadline=None, max_examples=50)
def test_a_flipped_bit_is_found(place, bit):
    body = bytearray(chunks.encode(realistic(30)))
    body[place % len(body)] ^= 1 << bit
    with pytest.raises(ChunkCorrupt):
        chunks.decode(bytes(body))


@pytest.mark.parametrize("n", [0, 5, 9, 100])
def test_a_body_that_was_cut_off_is_found(n):
    with pytest.raises(ChunkCorrupt):
        chunks.decode(chunks.encode(realistic(30))[:n])
