"""The last readings of many bodies at once, beside what reading each alone finds."""

import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.decoding import last_tick, matrix
from telemetry.decoding.last_tick import Body
from telemetry.message import codec
from tests.telemetry.test_codec import bodies

HEAD = struct.Struct("<HHBB")


def alone(body):
    """Return what reading it alone finds, as `shown` has it; None where it is refused."""
    try:
        parts = matrix.of_body(body.frame, n_devices=body.n_devices, n_ticks=body.n_ticks)
    except codec.BlockInvalid:
        return None
    return shown(last_tick.of_parts(parts, body.n_ticks))


def shown(found):
    if isinstance(found, codec.BlockInvalid):
        return None
    series = zip(found.numbers.tolist(), found.places.tolist(), strict=True)
    return dict(zip(series, found.steps.tolist(), strict=True)), found.n_values


@given(st.lists(bodies(), max_size=4), st.randoms())
@settings(deadline=None)  # a busy machine is no fault
def test_many_at_once_say_what_each_says_alone(drawn, choose):
    asked = [Body(codec.encode(metrics), n_devices, n_ticks) for n_devices, n_ticks, metrics in drawn] * 3
    choose.shuffle(asked)

    assert [shown(found) for found in last_tick.of_bodies(asked)] == [alone(body) for body in asked]


@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=5))
@settings(max_examples=500, deadline=None)
def test_foreign_bytes_are_refused_as_they_are_alone(drawn):
    asked = [Body(zstandard.compress(raw), n_devices, n_ticks) for raw, n_devices, n_ticks in drawn]

    assert [shown(found) for found in last_tick.of_bodies(asked)] == [alone(body) for body in asked]


def test_bytes_that_are_no_frame_are_refused():
    (found,) = last_tick.of_bodies([Body(b"no frame", 1, 1)])

    assert isinstance(found, codec.BlockInvalid)


@pytest.mark.parametrize(("first", "difference"), [(2**61, 0), (2**62 - 1, 0), (2**62 - 1, 1), (-(2**62), 0)])
def test_readings_near_the_largest_are_judged_as_alone(first, difference):
    coded = [2 * value if value >= 0 else -2 * value - 1 for value in (first, difference)]
    block = HEAD.pack(2, 1, 8, 1) + struct.pack("<HBQB", 7, 1, *coded)
    body = Body(zstandard.compress(block), 1, 2)

    assert [shown(found) for found in last_tick.of_bodies([body, body])] == [alone(body)] * 2


def test_a_series_in_two_blocks_is_refused():
    block = HEAD.pack(1, 1, 1, 0) + struct.pack("<BHBB", 1, 7, 1, 4)
    body = Body(zstandard.compress(2 * block), 1, 2)

    (found,) = last_tick.of_bodies([body])

    assert "stands twice" in str(found)
