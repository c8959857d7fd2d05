"""Columns ↔ bytes."""

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from telemetry import codec

values = st.none() | st.integers(-(2**61), 2**61)
shapes = st.tuples(st.integers(0, 6), st.integers(1, 12))


@given(st.data())
def test_it_gives_back_what_was_put_in(data):
    n_series, n_ticks = data.draw(shapes)
    series = data.draw(
        st.lists(st.lists(values, min_size=n_ticks, max_size=n_ticks), min_size=n_series, max_size=n_series)
    )

    mask, body = codec.encode(series)

    assert codec.decode(mask, body, n_series=n_series, n_ticks=n_ticks) == dict(enumerate(series))
    assert codec.decode(mask, body, n_series=n_series, n_ticks=n_ticks, wanted={1}) == dict(
        list(enumerate(series))[1:2]
    )


def test_near_constant_readings_take_less_than_two_bytes_each():
    series = [[1_980_000 + (tick % 3) for tick in range(60)] for _ in range(8)]

    mask, body = codec.encode(series)

    assert len(mask) + len(body) < 2 * 8 * 60


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_nothing_else(mask, body):
    with pytest.raises(codec.BlockInvalid):
        codec.decode(mask + b"\x01", body, n_series=8 * (len(mask) + 1), n_ticks=1)


def test_a_frame_that_promises_more_than_its_mask_is_refused_before_it_is_unpacked():
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))

    with pytest.raises(codec.BlockInvalid, match="50000000"):
        codec.decode(b"\x01", bomb, n_series=1, n_ticks=1)


def test_a_block_larger_than_the_bound_is_refused():
    with pytest.raises(codec.BlockInvalid):
        codec.decode(b"", b"", n_series=codec.MAX_CELLS, n_ticks=2)
