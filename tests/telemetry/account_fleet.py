"""A small fleet whose energy is accounted for: what the tests of the fleet's and of a cluster's accounts start from."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fleet.environment.tariff import Band, Tariff
from fleet.models import Device
from telemetry import rollups
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.prices.energy_rates import Rates
from tests.factories import move
from tests.telemetry.batches import enrolled, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000 + 22 * 3_600_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=10)
HOUR, MINUTE = 3_600_000, 60_000
AFTER = T0 + 9 * HOUR
NIGHT = Tariff(0.4, bands=(Band(frozenset(range(7)), 0, 90, 0.1),), zone=ZoneInfo("Asia/Kolkata"))
ODD = Tariff(0.4, bands=(Band(frozenset(range(7)), 250, 397, 0.1),), zone=ZoneInfo("Asia/Kathmandu"))
RATES = {"free": Rates(None, None, None), "flat": Rates(Tariff(0.2), 300, 1.3), "night": Rates(NIGHT, None, None),
         "odd": Rates(ODD, None, None)}  # fmt: skip


def report(host, kind, watts, *, index=0, model="", sequence, first=0, n=900, counter=False):
    """Store 10 s readings of one device, of `n` ticks from the tick `first` on."""
    device = DeviceInfo(f"{kind}-{host}-{index}", kind, index, model)
    columns = {"power_draw_watts": [float(watts + tick % 7) for tick in range(n)]}
    if counter:
        columns["energy_joules_total"] = [10.0 * watts * tick for tick in range(n)]
    times = [T0 + 10_000 * (first + tick) for tick in range(n)]
    take(payload(times, columns, host=host, device=device, sequence=sequence, sample_seconds=10.0), NOW)


def make_fleet():
    """Hosts with and without a meter of their own, one whose meter falls silent, with and without accelerators."""
    enrolled("a", cluster="east", labels={"rack": "r1"})
    enrolled("b", cluster="west", labels={"rack": "r2"})
    enrolled("c", cluster="east")
    enrolled("d", cluster="south", labels={"rack": "r1"})
    report("a", DeviceKind.NVIDIA, 400, model="H100", sequence=0, counter=True)
    report("a", DeviceKind.NVIDIA, 300, index=1, model="A100", sequence=1, first=60, n=700)
    report("a", DeviceKind.NODE, 900, sequence=2, n=500)
    report("a", DeviceKind.CPU, 90, sequence=3)
    report("b", DeviceKind.NVIDIA, 500, model="A100", sequence=0)
    report("c", DeviceKind.CPU, 120, sequence=0)
    report("c", DeviceKind.NODE, 250, sequence=1, first=100, n=40)
    report("d", DeviceKind.NODE, 700, sequence=0)
    rollups.roll_up(60, NOW)


def said(found):
    """Return accounts as they can be compared; sums of another order differ in the last digits."""
    accounts_ = [asdict(each) for each in [found.total, *found.groups]]
    return [{name: pytest.approx(v) if isinstance(v, float) else v for name, v in each.items()} for each in accounts_]


def rename(name):
    """Let a machine come back under another name, as the server sees it: all of it is that new host's, the old one is empty."""
    new = enrolled("new", cluster="north", labels={"rack": "r9"})
    for uuid in list(Device.objects.filter(host__name=name).values_list("uuid", flat=True)):
        move(uuid, new, AFTER)
