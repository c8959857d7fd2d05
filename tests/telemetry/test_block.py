"""A metric's readings as the agent takes them over: to everybody a list of columns, and on the wire what that list would be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.block import Block, Part
from telemetry.message.wire import Batch, DeviceInfo, DeviceKind

GPUS = [DeviceInfo(f"GPU-{place}", DeviceKind.NVIDIA, place, "test device") for place in range(5)]
METRICS = {"power_draw_watts": 1000, "gpu_utilization_ratio": 100, "sm_clock_hertz": 1e-6, "memory_used_bytes": 1}
TIMES = [1000, 2000, 3000]


@st.composite
def blocks(draw, divisor):
    """Return a block of a metric in parts, of whole numbers and others, at all of the ticks and at some."""
    places, parts = draw(st.permutations(range(len(GPUS)))), []
    while places:
        n = draw(st.integers(1, len(places)))
        own, places = tuple(sorted(places[:n])), places[n:]
        ticks = draw(st.sampled_from([None, (0, 1), (0, 2), (1,)]))
        n_numbers = len(own) * len(ticks or TIMES)
        number = draw(st.sampled_from([st.integers(0, 100), st.floats(0, 100)]))
        numbers = draw(st.lists(number, min_size=n_numbers, max_size=n_numbers))
        if draw(st.booleans()):
            parts.append(Part(own, ticks, numbers, draw(st.sampled_from([1, divisor]))))
    return Block(len(GPUS), len(TIMES), parts)


def batch(columns):
    return Batch(
        host="gpu-a01", epoch="b" * 32, sequence=0, segment=0, sent_ms=0, times_ms=TIMES, devices=GPUS, columns=columns,
        machine="a" * 32,
    )  # fmt: skip


@given(st.fixed_dictionaries({metric: blocks(divisor) for metric, divisor in METRICS.items()}))
def test_the_server_reads_of_blocks_what_it_reads_of_columns(columns):
    listed = {metric: [list(column) for column in block] for metric, block in columns.items()}

    assert received.unpack(wire.pack(batch(columns))).columns == received.unpack(wire.pack(batch(listed))).columns


def test_it_is_a_list_of_columns_of_readings_in_base_units():
    block = Block(3, 2, [Part((2,), (1,), (7,), 1), Part((0,), None, (250_000, 300_000), 1000)])

    assert block == [[250.0, 300.0], [None, None], [None, 7]]
    assert block[-1] == [None, 7]
    assert block[1:] == [[None, None], [None, 7]]


@pytest.mark.parametrize("number", [1, 2**53 + 1, 2**61 - 1])
def test_a_drivers_whole_number_is_on_the_wire_as_it_came(number):
    ((devices, ticks, steps),) = Block(1, 1, [Part((0,), None, (number,), 1000)]).runs(0.001)

    assert (devices, ticks, list(steps)) == (0b1, None, [number])
