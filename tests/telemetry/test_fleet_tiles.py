"""The tiles of the fleet page that compare: today's energy with yesterday's, the last hour with the same one a day ago."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache

from fleet.environment.tariff import Tariff
from fleet.models import DeviceKind
from fleet.pages.timerange import midnight
from telemetry.accounts.today import today
from telemetry.newest import day_before
from telemetry.newest.day_before import DAY_MS, HOUR_MS
from telemetry.newest.glance import of_this_process
from telemetry.prices.energy_rates import Rates
from tests.factories import CPU_READINGS, GPU_READINGS, make_chunks, make_device, make_host, make_latest
from tests.people import signed_in
from tests.telemetry.test_accounts import roll_up
from tests.telemetry.test_pages_power import text

pytestmark = pytest.mark.django_db
FREE = Rates(None, None, None)


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


def drawing(watts: float, used: float, now_ms: int, *, device=None):
    """Let a device draw for the hour before a moment, a sample each ten seconds."""
    device = device or make_device(make_host("a", cluster="atlas"), 0)
    times = list(range(now_ms - HOUR_MS, now_ms, 10_000))
    columns = {"power_draw_watts": [[watts] * 360], "gpu_utilization_ratio": [[used] * 360]}
    make_chunks(device.host, [device], times, columns, ticks=60, sequence=now_ms % 10**9)
    return device


def test_the_last_hour_stands_beside_the_same_hour_of_the_day_before():
    now_ms = int(time.time() * 1000)
    device = drawing(200.0, 0.5, now_ms - DAY_MS)
    drawing(250.0, 0.6, now_ms, device=device)

    found = day_before.measure(None, now_ms)

    assert found.power == pytest.approx(0.25)
    assert found.utilisation == pytest.approx(0.1)
    assert day_before.known(None) == found
    assert day_before.known("atlas") == day_before.NOT_KNOWN
    assert day_before.measure("", now_ms) == day_before.NOT_KNOWN  # there are no hosts without a cluster


def test_without_a_day_before_nothing_is_compared():
    now_ms = int(time.time() * 1000)
    drawing(250.0, 0.6, now_ms)

    assert day_before.measure(None, now_ms) == day_before.NOT_KNOWN


def test_the_tiles_say_how_they_stand_to_the_day_before():
    now_ms = int(time.time() * 1000)
    device = drawing(200.0, 0.5, now_ms - DAY_MS)
    drawing(250.0, 0.6, now_ms, device=device)
    make_latest(device.host, {device: GPU_READINGS})
    viewer = signed_in()
    viewer.get("/fleet/energy/")

    page = text(viewer.get("/"))
    assert "↑ 10.0 pp in a day" in page
    assert "↑ 25.0 % in a day" in page


def tiles(viewer) -> dict[str, str]:
    """Return what the pages' tiles of power and energy say, by address."""
    cache.clear()
    of_this_process().forget()
    return {path: text(viewer.get(path)) for path in ("/", "/fleet/energy/", "/power/?range=1h")}


def test_power_is_summed_of_the_devices_of_which_energy_is_and_says_of_which():
    """The GPUs, and the CPUs of hosts without any; not the CPUs beside GPUs."""
    gpu = make_device(make_host("a"), 0)
    make_latest(gpu.host, {gpu: GPU_READINGS, make_device(gpu.host, kind=DeviceKind.CPU): CPU_READINGS})
    viewer = signed_in()
    assert "CPU host" not in "".join(tiles(viewer).values())

    cpu = make_device(make_host("b"), kind=DeviceKind.CPU)
    make_latest(cpu.host, {cpu: CPU_READINGS | {"power_draw_watts": 100.0}})
    said = tiles(viewer)

    gpu_watts = GPU_READINGS["power_draw_watts"]
    assert f"{gpu_watts + 100:.0f} W" in said["/"]
    for path in ("/", "/power/?range=1h"):
        assert f"GPUs {gpu_watts:.0f} W + 1 CPU host 100 W" in said[path]
    summary = viewer.get("/api/v1/fleet/summary").json()
    assert summary["readings"]["power_draw_watts"]["value"] == gpu_watts + 100


def test_a_cpu_host_that_tells_no_power_stands_outside_and_is_named():
    gpu, cpu = make_device(make_host("a"), 0), make_device(make_host("b"), kind=DeviceKind.CPU)
    make_latest(gpu.host, {gpu: GPU_READINGS})
    make_latest(cpu.host, {cpu: {"gpu_utilization_ratio": 0.1}})
    said = tiles(signed_in())

    assert "651 W 1 CPU host unknown" in said["/"]
    assert "1 CPU host unknown · from 1 of 1 GPUs" in said["/power/?range=1h"]


def test_the_energy_of_today_is_compared_with_the_day_before_by_the_same_time():
    now = midnight(datetime.now(UTC), FREE.zone) - timedelta(days=3) + timedelta(hours=2)
    device = make_device(make_host("a", cluster="atlas"), 0)
    for days, watts in ((1, 100.0), (0, 150.0)):
        start_ms = int((now - timedelta(days=days, hours=2)).timestamp() * 1000)
        for minute in range(120):
            roll_up(device.host, {device: watts * 60}, start_ms=start_ms + minute * 60_000, step_seconds=60)

    found = today(now, FREE, None)

    assert found.account.joules == pytest.approx(150 * 7200)
    assert found.growth == pytest.approx(0.5)
    assert today(now, FREE, "atlas").growth == pytest.approx(0.5)
    assert today(now, FREE, "elsewhere").account.joules is None


def test_a_day_of_which_a_part_is_unknown_is_not_compared():
    now = midnight(datetime.now(UTC), FREE.zone) - timedelta(days=3) + timedelta(hours=2)
    device = make_device(make_host("a"), 0)
    start_ms = int((now - timedelta(hours=2)).timestamp() * 1000)
    for minute in range(120):
        roll_up(device.host, {device: 6000.0}, start_ms=start_ms + minute * 60_000, step_seconds=60)

    assert today(now, FREE, None).growth is None


def drawing_by_minutes(device, watts: float, start: datetime, minutes: int) -> None:
    start_ms = int(start.timestamp() * 1000)
    for minute in range(minutes):
        roll_up(device.host, {device: watts * 60}, start_ms=start_ms + minute * 60_000, step_seconds=60)


def test_minutes_of_today_that_are_on_their_way_are_no_decline():
    start = midnight(datetime.now(UTC), FREE.zone) - timedelta(days=3)
    device = make_device(make_host("a"), 0)
    drawing_by_minutes(device, 100.0, start - timedelta(days=1), 120)
    drawing_by_minutes(device, 100.0, start, 118)

    assert today(start + timedelta(hours=2), FREE, None).growth == pytest.approx(0.0)


def test_after_a_change_of_the_clock_as_many_hours_are_compared():
    rates = Rates(Tariff(0.3, ZoneInfo("Europe/Berlin")), None, None)
    device = make_device(make_host("a"), 0)
    changed = datetime(2026, 3, 29, tzinfo=rates.zone)  # 23 hours long
    drawing_by_minutes(device, 100.0, changed, 33 * 60)

    assert today(datetime(2026, 3, 30, 10, tzinfo=rates.zone), rates, None).growth == pytest.approx(0.0)


def test_power_of_two_kinds_is_compared_with_the_day_before_by_what_it_used():
    """A GPU that draws a fifth more, and the CPU of another host that draws what it did."""
    gpu = make_device(make_host("a", cluster="atlas"), 0)
    cpu = make_device(make_host("b"), kind=DeviceKind.CPU)
    make_latest(gpu.host, {gpu: GPU_READINGS})
    make_latest(cpu.host, {cpu: CPU_READINGS | {"power_draw_watts": 100.0}})
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for days, watts in ((1, 500.0), (0, 600.0)):
        start = now - timedelta(days=days, minutes=60)
        drawing_by_minutes(gpu, watts, start, 58)  # the newest are on their way
        drawing_by_minutes(cpu, 100.0, start, 58)
    viewer = signed_in()
    viewer.get("/fleet/energy/")
    viewer.get("/fleet/energy/?cluster=atlas")

    assert f"↑ {100 / 6:.1f} % in a day · GPUs 651 W + 1 CPU host 100 W" in text(viewer.get("/"))
    assert day_before.known(None).power == pytest.approx(1 / 6, abs=0.005)
    assert day_before.known("atlas").power is None  # of one kind, and no sample of its power is known
