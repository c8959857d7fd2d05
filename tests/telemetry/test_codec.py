"""Columns ↔ bytes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry import codec

values = st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-3, 3)


@st.composite
def bodies(draw):
    """Return (n_devices, n_ticks, blocks as the encoder takes them)."""
    n_devices, n_ticks = draw(st.integers(0, 5)), draw(st.integers(1, 12))
    column = st.lists(values, min_size=n_ticks, max_size=n_ticks) | st.just([None] * n_ticks) | st.just([7] * n_ticks)
    numbers = draw(st.lists(st.integers(0, 2000), max_size=4, unique=True).map(sorted))
    block = st.lists(column, min_size=n_devices, max_size=n_devices)
    return n_devices, n_ticks, [(number, draw(block)) for number in numbers]


@given(bodies())
def test_it_gives_back_what_was_put_in(body):
    n_devices, n_ticks, blocks = body

    packed = codec.encode(blocks)

    assert codec.decode(packed, n_devices=n_devices, n_ticks=n_ticks) == dict(blocks)
    assert codec.decode(packed, n_devices=n_devices, n_ticks=n_ticks, wanted={n for n, _ in blocks[1:2]}) == dict(
        blocks[1:2]
    )


def test_what_is_constant_takes_four_bytes_or_so():
    assert len(codec.encode([(5, [[1] * 60] * 8)])) == 4
    assert len(codec.encode([(5, [[85_520_809_984] * 60] * 8)])) == 9


def test_the_step_of_a_clock_does_not_cost_bits():
    choose = random.Random(1)
    clocks = [[1_980_000 - 15_000 * choose.randrange(8) for _ in range(60)] for _ in range(8)]

    assert len(codec.encode([(16, clocks)])) <= 8 * 60 * 3 / 8 + 12


def test_a_counter_costs_the_spread_of_its_growth():
    choose = random.Random(1)
    counters = []
    for device in range(8):
        counters.append([10**12 + device * 10**11])
        for _ in range(59):
            counters[-1].append(counters[-1][-1] + 700_000 + choose.randrange(256))

    assert len(codec.encode([(13, counters)])) < 8 * 60 * 1.2


def test_devices_without_a_metric_cost_one_bit_each_once():
    columns = [[None] * 5, [1] * 5, [2] * 5]
    one, two = codec.encode([(1, columns)]), codec.encode([(1, columns), (2, columns)])

    assert len(two) == 2 * len(one) - 1


@given(st.binary(max_size=60), st.integers(0, 9), st.integers(1, 9))
@settings(max_examples=500)
def test_foreign_bytes_give_readings_or_are_refused(body, n_devices, n_ticks):
    try:
        found = codec.decode(body, n_devices=n_devices, n_ticks=n_ticks)
    except codec.BlockInvalid:
        return

    assert all([len(column) for column in block] == [n_ticks] * n_devices for block in found.values())


@given(bodies().filter(lambda body: body[2]), st.data())
def test_a_cut_body_is_refused(body, data):
    n_devices, n_ticks, blocks = body
    packed = codec.encode(blocks[:1])
    cut = data.draw(st.integers(1, len(packed) - 1))

    with pytest.raises(codec.BlockInvalid):
        codec.decode(packed[:cut], n_devices=n_devices, n_ticks=n_ticks)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x05\x00\x02\x00" * 2, "out of order"),
        (b"\x05\x08\x02\x00", "unknown form"),
        (b"\x05\x00\x02\x43", "at most 66 bits"),
        (b"\x05\x00" + b"\xff" * 10 + b"\x00", "too long"),
        (b"\x05\x00" + b"\xff" * 9 + b"\x7f\x00", "too large"),
        (b"\x05\x02\xff\x02\x00", "beyond the last reading"),
        (b"\x05\x00\x02\x01\x01\xff", "beyond its last integer"),
    ],
)
def test_it_says_what_is_wrong_with_a_body(body, why):
    with pytest.raises(codec.BlockInvalid, match=why):
        codec.decode(body, n_devices=1, n_ticks=1)


def test_a_few_bytes_cannot_ask_for_more_cells_than_the_bound():
    body = b"".join(bytes((number, 0, 2, 0)) for number in range(100))

    with pytest.raises(codec.BlockInvalid, match="cells"):
        codec.decode(body, n_devices=100, n_ticks=1000)
