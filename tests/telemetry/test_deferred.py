"""Readings that stay raw numbers until somebody looks: a map as any, and in a batch the same as if converted at once."""

import math

import pytest

from telemetry.agent.backends.deferred import Deferred, Kept
from telemetry.agent.backends.nvml.conversion import Conversion
from telemetry.agent.batching import BatchMaker
from telemetry.agent.names import Names
from telemetry.agent.ticks import Tick
from telemetry.catalog import AbsentReason
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.wire import DeviceInfo, DeviceKind

GPUS = [DeviceInfo(f"GPU-{letter}", DeviceKind.NVIDIA, place, "test device") for place, letter in enumerate("ab")]
ASKED = Conversion(("power_draw_watts", "sm_active_ratio"), (1000, 100))
KEPT = Kept.of({"memory_used_bytes": 7, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED})
OTHER = Kept.of({"memory_used_bytes": 8, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED})
LACKING = Kept.of({"memory_used_bytes": AbsentReason.TIMEOUT, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED})


def deferred(watts=300, active=50.0, kept=KEPT, **extra):
    made = Deferred(kept, ASKED, (watts * 1000, active))
    for name, reading in {"xid_last": 0, **extra}.items():
        made.add(name, reading)
    return made


def batch_of(*ticks):
    """Return what the server reads; each tick is a device's readings, the same for both."""
    made = [Tick(n, float(n), 1000.0) for n in range(len(ticks))]
    for tick, readings in zip(made, ticks, strict=True):
        for gpu in GPUS:
            tick.put(gpu, readings)
    (batch,) = BatchMaker("gpu-a01", "a" * 32, Names("b" * 32), 1.0).make(made, {}, None, lambda: 2000.0)
    found = received.unpack(wire.pack(batch))
    return found.columns, found.absent


def test_it_is_a_map_of_all_readings_in_base_units():
    assert dict(deferred()) == {
        "memory_used_bytes": 7, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED, "power_draw_watts": 300.0,
        "sm_active_ratio": 0.5, "xid_last": 0,
    }  # fmt: skip


def test_whether_there_are_readings_is_told_without_converting_them():
    class Untouched(Conversion):
        def put(self, raw, readings):
            pytest.fail("nobody has looked")

    readings = Deferred(Kept.of({}), Untouched(("power_draw_watts",), (1000,)), (300_000,))
    assert readings
    assert not Deferred(Kept.of({}), Untouched((), ()), ())


def test_a_reading_that_is_added_after_a_look_is_seen():
    readings = deferred()
    assert "allocation" not in readings
    readings.add("allocation", 2)
    assert (readings["allocation"], len(readings)) == (2, 6)


@pytest.mark.parametrize(
    "ticks",
    [
        [deferred(), deferred(310, 60.0)],
        [deferred(), deferred(kept=OTHER)],
        [deferred(), deferred(kept=LACKING)],
        [deferred(kept=LACKING), deferred(kept=LACKING)],
        [deferred(active=math.nan), deferred(active=math.nan)],
        [deferred(), deferred(active=101.0)],
        [deferred(), deferred(allocation=1)],
        [deferred(allocation=AbsentReason.UNKNOWN), deferred(allocation=AbsentReason.UNKNOWN)],
        [deferred(allocation=AbsentReason.UNKNOWN), deferred(allocation=1)],
        [deferred(), {"power_draw_watts": AbsentReason.GPU_IS_LOST}],
    ],
)
def test_a_batch_tells_the_same_as_of_readings_that_were_converted_at_once(ticks):
    assert batch_of(*ticks) == batch_of(*map(dict, ticks))


def test_devices_that_defer_and_others_share_a_batch():
    tick = Tick(0, 0.0, 1000.0)
    tick.put(GPUS[0], deferred())
    tick.put(GPUS[1], {"power_draw_watts": 200.0})
    (batch,) = BatchMaker("gpu-a01", "a" * 32, Names("b" * 32), 1.0).make([tick], {}, None, lambda: 2000.0)
    assert [list(column) for column in batch.columns["power_draw_watts"]] == [[300.0], [200.0]]
    assert [list(column) for column in batch.columns["memory_used_bytes"]] == [[7], [None]]


POWER = Conversion(("power_draw_watts",), (1000,))


@pytest.mark.parametrize("full", [{0, 3}, {1}, {0, 1, 3}])
@pytest.mark.parametrize("lacking", [None, "a device", "a tick"])
def test_power_between_full_ticks_stands_among_them(full, lacking):
    ticks = [Tick(n, float(n), 1000.0, n in full) for n in range(4)]
    for tick in ticks:
        power = Deferred(Kept.of({}), POWER, (300_000 + 1000 * tick.number,))
        for gpu in GPUS:
            is_left_out = (lacking == "a device" and gpu is GPUS[1]) or (lacking == "a tick" and tick.number == 2)
            if tick.is_full or not is_left_out:
                tick.put(gpu, deferred(300 + tick.number) if tick.is_full else power)
    (batch,) = BatchMaker("gpu-a01", "a" * 32, Names("b" * 32), 1.0).make(ticks, {}, None, lambda: 2000.0)
    columns = received.unpack(wire.pack(batch)).columns

    watts = [[300 + n if lacking != "a tick" or n in full or n != 2 else None for n in range(4)] for _ in GPUS]
    if lacking == "a device":
        watts[1] = [300 + n if n in full else None for n in range(4)]
    assert columns["power_draw_watts"] == watts
    assert columns["memory_used_bytes"] == [[7 if n in full else None for n in range(4)]] * 2
