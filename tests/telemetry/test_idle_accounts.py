"""Idle waste as it is accounted: by who had the device, what it cost, and over the API."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fleet.environment.tariff import Band, Tariff
from fleet.models import Device, DeviceKind
from telemetry import catalog
from telemetry.accounts import idle
from telemetry.health import allocation
from telemetry.health.allocation import Allocated
from telemetry.models import Rollup
from telemetry.prices.energy_rates import Rates
from telemetry.store import statistics
from telemetry.store.idle_quarters import ALLOCATED, FREE, UNKNOWN
from telemetry.store.statistics import ENERGY, Field
from tests.factories import make_device, make_host, move
from tests.people import script

pytestmark = pytest.mark.django_db

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS, KWH = 3_600_000, 3_600_000.0
UTC_DAYS = ZoneInfo("UTC")
NO_PRICE = Rates(None, None, None)
UTILISATION = catalog.BY_NAME["gpu_utilization_ratio"].number


def roll_up(device, wasted, **bucket):
    """Store one bucket of waste, {who had it: joules}, of `drawn` joules, with as many readings of the utilisation."""
    roll_up_host({device: wasted}, **bucket)


def roll_up_host(devices, *, drawn=0.0, start_ms=T0, step_seconds=3600, n_read=3600):
    """Store the same of several devices of one host."""
    rows = []
    for device, wasted in devices.items():
        mine = [((UTILISATION, Field.COUNT, 0), n_read)] if n_read else []
        mine += [((ENERGY, Field.MEASURED_MILLIJOULES, 0), round(1000 * drawn))] if drawn else []
        mine += [((ENERGY, Field.COVERED_MILLISECONDS, 0), 1000 * step_seconds)]
        for argument, joules in wasted.items():
            mine += [((ENERGY, Field.IDLE_MILLIJOULES, argument), round(1000 * joules))]
            mine += [((ENERGY, Field.IDLE_MILLISECONDS, argument), 1000 * step_seconds // len(wasted))]
        rows += [((*key, device.pk), value) for key, value in mine]
    keys, values = np.array([key for key, _ in rows]), np.array([[value] for _, value in rows])
    body = statistics.encode_fresh(statistics.ordered(keys, values, start_ms, 1000 * step_seconds))
    (host,) = {device.host for device in devices}
    Rollup.objects.create(host=host, step_seconds=step_seconds, start_ms=start_ms, n_buckets=1, body=body)


def account(*, group_by="", rates=NO_PRICE, start_ms=T0, hours=1.0, zone=UTC_DAYS, cluster=None):
    devices, end_ms = Device.objects.select_related("host"), start_ms + round(hours * HOUR_MS)
    return idle.idle_accounts(
        devices, start_ms, end_ms, datetime.now(UTC), group_by=group_by, rates=rates, zone=zone, cluster=cluster
    )  # fmt: skip


def joules(account):
    return {state.value: waste.joules for state, waste in account.by_state.items() if waste.seconds}


@pytest.fixture
def gpu():
    return make_device(make_host("gpu-a01", cluster="alpha", labels={"team": "vision"}), 0)


def test_waste_is_split_by_who_had_the_device(gpu):
    roll_up(gpu, {ALLOCATED: 2 * KWH, FREE: KWH, UNKNOWN: KWH / 2})

    total = account().total

    assert joules(total) == {"allocated": 2 * KWH, "free": KWH, "unknown": KWH / 2}
    assert (total.total.kwh, total.total.seconds, total.known_seconds, total.total.cost) == (3.5, 3600, 3600, None)


@pytest.mark.parametrize(("group_by", "old", "new"), [("host", "gpu-a01", "gpu-new"), ("cluster", "alpha", "beta")])
def test_what_was_wasted_under_a_machine_s_old_name_counts_there(gpu, group_by, old, new):
    roll_up(gpu, {FREE: KWH})
    move(gpu.uuid, make_host("gpu-new", cluster="beta"), T0 + 2 * HOUR_MS)

    found = account(group_by=group_by)

    assert [(group.key, group.total.joules) for group in found.groups] == [(old, KWH), (new, 0)]
    assert found.total.total.joules == KWH


@pytest.mark.parametrize("group_by", ["", "cluster", "host", "model", "day"])
def test_the_waste_of_a_cluster_is_that_of_its_hosts_of_then(gpu, group_by):
    roll_up(gpu, {FREE: KWH})
    roll_up(make_device(make_host("gpu-b01"), 0), {FREE: 3 * KWH})
    move(gpu.uuid, make_host("gpu-new", cluster="beta"), T0 + 2 * HOUR_MS)

    for cluster, kwh in (("alpha", 1), ("beta", 0), ("", 3)):
        found = account(group_by=group_by, cluster=cluster)

        assert found.total.total.kwh == kwh
        assert sum(group.total.kwh for group in found.groups) == (kwh if group_by else 0)


def test_hours_and_the_quarters_around_them_are_counted_once(gpu):
    for n in range(8):
        roll_up(gpu, {FREE: 100}, start_ms=T0 + n * HOUR_MS // 4, step_seconds=900)
    roll_up(gpu, {FREE: 400})

    assert joules(account(hours=1.5).total) == {"free": 600}


def test_a_price_is_paid_for_it_and_pue_comes_on_top(gpu):
    roll_up(gpu, {ALLOCATED: KWH, FREE: KWH})
    total = account(rates=Rates(Tariff(0.5), None, 1.2)).total

    assert (total.total.cost, total.by_state[Allocated.FREE].cost) == (pytest.approx(1.2), pytest.approx(0.6))


def test_what_nobody_told_goes_by_the_label(gpu):
    gpu.host.labels["allocated"] = "yes"
    gpu.host.save()
    roll_up(gpu, {UNKNOWN: 10, FREE: 5})

    assert joules(account().total) == {"allocated": 10, "free": 5}


def test_energy_without_a_utilisation_says_nothing_of_waste(gpu):
    roll_up(gpu, {}, n_read=0)

    assert account().total.known_seconds == 0


def test_a_day_of_a_zone_off_the_hour_begins_within_an_hour(gpu):
    """In Kolkata midnight is at 18:30: of the hour before it half is of either day."""
    start_ms = T0 // 86_400_000 * 86_400_000 + 18 * HOUR_MS
    roll_up(gpu, {FREE: 4 * KWH}, start_ms=start_ms)
    for at in range(4):
        roll_up(gpu, {FREE: KWH}, start_ms=start_ms + 900_000 * at, step_seconds=900)

    found = account(group_by="day", start_ms=start_ms, zone=ZoneInfo("Asia/Kolkata"))

    assert [group.total.kwh for group in found.groups] == [2, 2]


def test_however_it_is_grouped_the_waste_is_the_same_to_the_last_device_and_day():
    """Devices that go into one account are summed before the days are parted, and the price is that of the hour."""
    night = Rates(Tariff(0.4, bands=(Band(frozenset(range(7)), 0, 360, 0.1),), zone=ZoneInfo("UTC")), None, 1.5)
    expected, cost, draw = dict.fromkeys(Allocated, 0.0), 0.0, np.random.default_rng(5)
    for name, labels in (("a", {"allocated": "0:no, 1:yes"}), ("b", {})):
        host = make_host(name, labels=labels)
        devices = [make_device(host, index) for index in range(2)]
        for start_ms in range(T0, T0 + 30 * HOUR_MS, HOUR_MS):
            wasted = {each: dict.fromkeys((ALLOCATED, FREE, UNKNOWN), float(draw.integers(9999))) for each in devices}
            roll_up_host(wasted, start_ms=start_ms)
            for device, joules_ in ((each, joules_) for each, of in wasted.items() for joules_ in of.items()):
                states = {ALLOCATED: Allocated.ALLOCATED, FREE: Allocated.FREE}
                by_hand = allocation.by_hand(labels, device.index).state
                expected[states.get(joules_[0], by_hand)] += joules_[1]
                cost += joules_[1] / KWH * (0.1 if start_ms // HOUR_MS % 24 < 6 else 0.4) * 1.5

    for group_by in ("", "host", "device", "model", "label:team", "day"):
        found = account(group_by=group_by, rates=night, hours=30)
        for told in ([found.total], found.groups or [found.total]):
            sums = {state: sum(each.by_state[state].joules for each in told) for state in Allocated}
            assert sums == pytest.approx(expected), group_by
            assert sum(each.total.cost for each in told) == pytest.approx(cost), group_by


def test_a_processor_beside_gpus_is_not_counted(gpu):
    roll_up(make_device(gpu.host, 0, kind=DeviceKind.CPU, uuid="CPU-a"), {FREE: 10})

    assert joules(account().total) == {}


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("host", ["gpu-a01", "gpu-b01"]), ("cluster", ["alpha", "beta"]), ("label:team", ["", "vision"]), ("day", ["2026-11-20"]),
    ],
)  # fmt: skip
def test_groups_are_those_of_the_energy_accounts(gpu, group_by, keys):
    other = make_device(make_host("gpu-b01", cluster="beta"), 0, uuid="GPU-b")
    roll_up(gpu, {FREE: 10})
    roll_up(other, {ALLOCATED: 5})
    found = account(group_by=group_by)

    assert [group.key for group in found.groups] == keys
    assert sum(group.total.joules for group in found.groups) == found.total.total.joules == 15


# Over the API --------------------------------------------------------------------------------------------------

PATH = "/api/v1/energy/idle"
SPAN = {"start": str(T0), "end": str(T0 + HOUR_MS)}


def test_the_api_answers_with_the_split(gpu, settings):
    settings.STEPWATT_CURRENCY, settings.STEPWATT_PUE = "EUR", None
    settings.STEPWATT_TARIFF = Tariff(0.5)
    roll_up(gpu, {FREE: KWH})

    answer = script().get(PATH, {**SPAN, "group_by": "host"}).json()

    free = {
        "joules": KWH,
        "kwh": 1.0,
        "estimated_share": 0,
        "device_seconds": 3600,
        "cost": 0.5,
        "cost_estimated_share": 0,
    }
    nothing = {"joules": 0, "kwh": 0, "estimated_share": 0, "device_seconds": 0, "cost": 0, "cost_estimated_share": 0}
    split = {**free, "known_device_seconds": 3600, "allocated": nothing, "free": free, "unknown": nothing}
    assert (answer["currency"], answer["total"], answer["groups"]) == ("EUR", split, [{"key": "gpu-a01", **split}])


def test_the_api_counts_whole_quarters(gpu):
    answer = script().get(PATH, {"start": str(T0 + 60_000), "end": str(T0 + 16 * 60_000)}).json()

    assert (answer["start"], answer["end"]) == ("2026-11-20T12:00:00Z", "2026-11-20T12:30:00Z")
    assert (answer["total"]["joules"], answer["total"]["free"]["joules"]) == (None, None)


@pytest.mark.parametrize("bad", [{"group_by": "rack"}, {"group_by": "label:"}, {"start": "soon"}, {"scope": "device"}])
def test_the_api_refuses_what_it_does_not_know(bad):
    answer = script().get(PATH, {**SPAN, **bad})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, next(iter(bad)))


def test_the_api_asks_who_it_is(client):
    assert client.get(PATH, SPAN).status_code == 401


def test_of_some_devices_the_whole_quarters_within_a_window_are_counted(gpu):
    other = make_device(make_host("gpu-a02"), 0)
    for n in range(4):
        for device in (gpu, other):
            roll_up(device, {FREE: 100}, start_ms=T0 + n * HOUR_MS // 4, step_seconds=900)

    found = idle.of_devices([gpu], T0 + 60_000, T0 + HOUR_MS - 60_000)

    assert (found.total.joules, found.known_seconds) == (200, 1800)
    assert idle.of_devices([gpu], T0 + 60_000, T0 + 120_000).known_seconds == 0
