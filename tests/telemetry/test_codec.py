"""Columns → bytes (codec.py), and back by the server's reader (matrix.py)."""

import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.decoding import matrix
from telemetry.message import codec

values = st.none() | st.integers(1 - 2**62, 2**62 - 1) | st.integers(-3, 3)


@st.composite
def bodies(draw):
    """Return (n_devices, n_ticks, metrics as the encoder takes them)."""
    n_devices, n_ticks = draw(st.integers(1, 10)), draw(st.integers(1, 12))
    column = st.lists(values, min_size=n_ticks, max_size=n_ticks) | st.just([None] * n_ticks) | st.just([7] * n_ticks)
    numbers = draw(st.lists(st.integers(0, 2**16 - 1), max_size=4, unique=True).map(sorted))
    block = st.lists(column, min_size=n_devices, max_size=n_devices)
    return n_devices, n_ticks, [(number, draw(block)) for number in numbers]


def decoded(body, n_devices, n_ticks):
    parts = matrix.of_body(body, n_devices=n_devices, n_ticks=n_ticks)
    return matrix.to_columns(parts, n_devices, n_ticks)


def known(metrics):
    """What is left of metrics: those of which any device has a reading."""
    return {
        number: block for number, block in metrics if any(value is not None for column in block for value in column)
    }


@given(bodies())
def test_it_gives_back_what_was_put_in(body):
    n_devices, n_ticks, metrics = body

    assert decoded(codec.encode(metrics), n_devices, n_ticks) == known(metrics)


@given(bodies(), st.randoms())
def test_devices_that_share_their_readings_come_back_alike(body, choose):
    n_devices, n_ticks, metrics = body
    shared = [(number, [choose.choice(block)] * n_devices) for number, block in metrics]

    assert decoded(codec.encode(shared), n_devices, n_ticks) == known(shared)


def test_what_is_constant_costs_next_to_nothing():
    one = codec.encode([(5, [[85_520_809_984] * 5] * 8)])
    many = codec.encode([(number, [[85_520_809_984] * 5] * 8) for number in range(50)])

    assert len(one) < 40
    assert len(many) < 200  # of 2,000 readings


def test_a_counter_costs_the_spread_of_its_growth():
    choose = random.Random(1)
    counters = []
    for device in range(8):
        counters.append([10**12 + device * 10**11])
        for _ in range(59):
            counters[-1].append(counters[-1][-1] + 700_000 + choose.randrange(256))

    assert len(codec.encode([(13, counters)])) < 8 * 60 * 1.6


@given(st.binary(max_size=80), st.integers(0, 9), st.integers(1, 9))
@settings(max_examples=500)
def test_foreign_bytes_give_readings_or_are_refused(body, n_devices, n_ticks):
    try:
        found = decoded(zstandard.compress(body), n_devices, n_ticks)
    except codec.BlockInvalid:
        return

    assert all([len(column) for column in block] == [n_ticks] * n_devices for block in found.values())


@given(bodies().filter(lambda body: known(body[2])), st.data())
def test_a_cut_body_is_refused(body, data):
    n_devices, n_ticks, metrics = body
    whole = zstandard.decompress(codec.encode(metrics[:1]) if known(metrics[:1]) else codec.encode(metrics))
    cut = data.draw(st.integers(1, len(whole) - 1))

    try:
        found = decoded(zstandard.compress(whole[:cut]), n_devices, n_ticks)
    except codec.BlockInvalid:
        return
    assert len(found) < len(known(metrics)) or found != known(metrics)  # a cut between two blocks leaves the first


HEAD = codec.BLOCK_HEAD


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (HEAD.pack(1, 1, 1, 0), "ends too early"),
        (HEAD.pack(2, 1, 0, 0) + b"\x05\x00\x01", "unknown form"),
        (HEAD.pack(1, 1, 3, 0) + b"\x05\x00\x01", "unknown form"),
        (HEAD.pack(1, 0, 0, 0), "unknown form"),
        (HEAD.pack(1, 2, 0, 0) + b"\x05\x00\x05\x00\x01\x01", "do not fit"),
        (HEAD.pack(1, 1, 0, 0) + b"\x05\x00\x00", "do not fit"),
        (HEAD.pack(1, 1, 0, 0) + b"\x05\x00\x02", "beyond the last"),
        ((HEAD.pack(1, 1, 0, 0) + b"\x05\x00\x01") * 2, "stands twice"),
    ],
)
def test_it_says_what_is_wrong_with_a_body(body, why):
    with pytest.raises(codec.BlockInvalid, match=why):
        matrix.of_body(zstandard.compress(body), n_devices=1, n_ticks=1)


def test_a_few_bytes_cannot_ask_for_more_cells_than_the_bound():
    body = HEAD.pack(10_000, 300, 0, 0) + b"".join(n.to_bytes(2, "little") for n in range(300)) + b"\x01" * 300

    with pytest.raises(codec.BlockInvalid, match="2000000"):
        matrix.of_body(zstandard.compress(body), n_devices=1, n_ticks=10_000)


@pytest.mark.parametrize("readings", [[2**62], [0, -(2**62)], [2**62 - 1, 2**62], [1 - 2**62, 2**62 - 1, 3 * 2**61]])
def test_a_reading_that_sums_would_run_over_with_is_refused(readings):
    body = codec.encode([(13, [readings])])

    with pytest.raises(codec.BlockInvalid, match="2\\*\\*62"):
        matrix.of_body(body, n_devices=1, n_ticks=len(readings))


def test_the_largest_readings_come_back():
    readings = [2**62 - 1, 1 - 2**62, 2**62 - 1]

    assert decoded(codec.encode([(13, [readings])]), 1, 3) == {13: [readings]}


def test_differences_that_run_over_64_bits_are_refused():
    n_ticks, most = 5, b"\xfe" + b"\xff" * 7  # 2**63 - 1, zigzag, at each tick
    planes = b"".join(bytes([each]) * (n_ticks - 1) for each in most)
    body = HEAD.pack(n_ticks, 1, 0, 8) + b"\x0d\x00\x01" + planes

    with pytest.raises(codec.BlockInvalid, match="2\\*\\*62"):
        matrix.of_body(zstandard.compress(body), n_devices=1, n_ticks=n_ticks)


def test_a_column_with_a_reading_that_is_too_large_is_refused():
    with pytest.raises(codec.BlockInvalid, match="2\\*\\*62"):
        matrix.of_columns({"energy_joules_total": [[2.0**70]]})


def test_a_frame_that_states_too_much_is_refused_before_it_is_unpacked():
    with pytest.raises(codec.BlockInvalid, match="50000000"):
        matrix.of_body(zstandard.compress(bytes(50_000_000)), n_devices=1, n_ticks=1)
