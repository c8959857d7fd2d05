"""Energy accounts: what belongs to whom, what is measured and what estimated, what it costs, and what is never added."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.environment.tariff import Band, Tariff
from fleet.models import Device, DeviceKind, Host, Origin
from telemetry.accounts import accounts
from telemetry.accounts.account import Scope
from telemetry.accounts.growth import growth
from telemetry.models import DirtyRollup, Rollup
from telemetry.prices.energy_rates import Rates
from telemetry.store import statistics
from telemetry.store.statistics import ENERGY, Field
from tests.factories import make_device, make_host
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
FREE = Rates(None, None, None)
KWH = 3_600_000.0


def roll_up(host, joules, *, start_ms=T0, step_seconds=3600, estimated=False, covered=1.0, quarters=None):
    """Store one bucket of energy, {device: joules}; an hour with its quarters, all alike where none are given."""
    if step_seconds == 3600 and quarters is None:
        quarters = [{device: each / 4 for device, each in joules.items()}] * 4
    for at, quarter in enumerate(quarters or ()):
        start = start_ms + 900_000 * at
        roll_up(host, quarter, start_ms=start, step_seconds=900, estimated=estimated, covered=covered)
    kind = Field.ESTIMATED_MILLIJOULES if estimated else Field.MEASURED_MILLIJOULES
    rows = [((ENERGY, kind, 0, device.pk), round(each * 1000)) for device, each in joules.items()]
    seconds = round(covered * step_seconds * 1000)
    rows += [((ENERGY, Field.COVERED_MILLISECONDS, 0, device.pk), seconds) for device in joules]
    keys, values = np.array([key for key, _ in rows]), np.array([[value] for _, value in rows])
    body = statistics.encode_fresh(statistics.ordered(keys, values, start_ms, 1000 * step_seconds))
    Rollup.objects.create(host=host, step_seconds=step_seconds, start_ms=start_ms, n_buckets=1, body=body)


def account(*, hours=1, scope=Scope.DEVICE, group_by="", rates=FREE, start_ms=T0):
    devices = list(Device.objects.select_related("host"))
    end_ms = start_ms + round(hours * HOUR_MS)
    now = datetime.fromtimestamp(end_ms / 1000, UTC)
    return accounts.accounts(
        devices, start_ms, end_ms, now, scope=scope, group_by=group_by, rates=rates, zone=ZoneInfo("UTC")
    )


@pytest.fixture
def host():
    return make_host("gpu-a01", cluster="alpha", labels={"team": "vision"})


@pytest.fixture
def gpus(host):
    return [make_device(host, 0), make_device(host, 1)]


def test_devices_energy_is_summed_and_its_kilowatt_hours_follow(host, gpus):
    roll_up(host, {gpus[0]: KWH, gpus[1]: 2 * KWH})

    total = account().total

    assert (total.joules, total.kwh, total.estimated_share, total.covered_share) == (3 * KWH, 3, 0, 1)


def test_what_is_not_known_is_not_zero(gpus):
    total = account().total

    assert (total.joules, total.kwh, total.cost, total.covered_share) == (None, None, None, 0)


@pytest.fixture
def recording():
    """An hour of an imported host: its GPU's energy."""
    host = make_host(
        "old-1", cluster="past", origin=Origin.IMPORTED, seen_at=datetime.fromtimestamp(T0 / 1000 + 3600, UTC)
    )
    gpu = make_device(host, 0)
    roll_up(host, {gpu: KWH})
    roll_up(host, {gpu: KWH / 60}, step_seconds=60)
    return gpu


def test_a_recording_is_asked_for_the_time_in_which_it_was_made(recording, host, gpus):
    for hour in range(4):
        roll_up(host, dict.fromkeys(gpus, KWH), start_ms=T0 + hour * HOUR_MS)

    found = account(hours=4, group_by="cluster")
    assert {group.key: group.covered_share for group in found.groups} == {"alpha": 1, "past": 1}
    assert (found.total.covered_share, found.total.asked_seconds) == (1, 9 * 3600)
    later = account(hours=2, start_ms=T0 + 2 * HOUR_MS, group_by="cluster")
    assert {group.key: group.covered_share for group in later.groups} == {"alpha": 1, "past": None}


def test_a_recording_with_a_gap_is_known_in_part(recording):
    Host.objects.update(last_seen_at=datetime.fromtimestamp(T0 / 1000 + 7200, UTC))

    assert account(hours=4).total.covered_share == 0.5


def test_days_ask_a_recording_for_their_part_of_it(recording):
    start_ms = T0 - 24 * HOUR_MS

    assert [day.asked_seconds for day in account(hours=48, start_ms=start_ms, group_by="day").groups] == [0, 3600, 0]


def test_a_recording_in_one_of_two_times_has_them_not_compared(recording, host, gpus):
    for hour in range(2):
        roll_up(host, dict.fromkeys(gpus, KWH), start_ms=T0 + hour * HOUR_MS)
    first, second, third = (account(start_ms=T0 + at * HOUR_MS).total for at in (0, 1, 1))

    assert growth(second, first) is None
    assert growth(third, second) == 0


def test_what_was_not_measured_costs_nobody_knows_what(host, gpus):
    other = make_host("gpu-b01", cluster="borealis")
    make_device(other)
    roll_up(other, {other.devices.get(): 0.0}, covered=0.0)
    roll_up(host, {gpus[0]: 3.6e6})

    found = account(rates=Rates(Tariff(0.5), 400, None), group_by="cluster")

    assert [(group.cost, group.grams_co2) for group in found.groups if group.joules is None] == [(None, None)]
    assert [(group.cost, group.grams_co2) for group in found.groups if group.joules is not None] == [(0.5, 400)]


def test_what_was_estimated_is_told_apart(host, gpus):
    roll_up(host, {gpus[0]: 100}, estimated=True)
    roll_up(host, {gpus[0]: 300}, start_ms=T0 + HOUR_MS)

    assert account(hours=2).total.estimated_share == 0.25


def test_node_and_devices_are_never_added(host, gpus):
    node = make_device(host, 0, kind=DeviceKind.NODE, uuid="NODE-a")
    roll_up(host, {gpus[0]: 100, node: 500})

    assert (account().total.joules, account(scope=Scope.NODE).total.joules) == (100, 500)


def test_a_part_is_not_counted_beside_its_whole(host, gpus):
    part = make_device(host, 2, uuid="MIG-a", parent=gpus[0], profile="1g.10gb")
    roll_up(host, {gpus[0]: 100, part: 40})

    assert account().total.joules == 100


def test_a_hosts_cpus_count_where_it_has_no_accelerator():
    cpu = make_device(make_host("cpu-1"), kind=DeviceKind.CPU)
    roll_up(cpu.host, {cpu: 70})

    assert account().total.joules == 70


def test_the_nodes_meter_is_what_is_paid_where_there_is_one(host, gpus):
    node = make_device(host, 0, kind=DeviceKind.NODE, uuid="NODE-a")
    other = make_device(make_host("gpu-b01"))
    roll_up(host, {gpus[0]: KWH, node: 3 * KWH}), roll_up(other.host, {other: KWH})

    total = account(rates=Rates(Tariff(0.5), 400, None)).total

    assert (total.cost, total.grams_co2) == (2.0, 1600)
    assert total.priced_by == {Scope.NODE, Scope.DEVICE}


def test_a_device_within_a_host_is_charged_for_its_own_energy_and_the_total_by_the_meter(host, gpus):
    node = make_device(host, 0, kind=DeviceKind.NODE, uuid="NODE-a")
    roll_up(host, {gpus[0]: KWH, gpus[1]: KWH, node: 3 * KWH})

    found = account(rates=Rates(Tariff(0.5), None, None), group_by="device")

    assert ([group.cost for group in found.groups], found.total.cost) == ([0.5, 0.5], 1.5)


def test_the_buildings_use_comes_on_top_once(host, gpus):
    roll_up(host, {gpus[0]: KWH})

    total = account(rates=Rates(Tariff(0.5), 100, 1.5)).total

    assert (total.kwh, total.cost, pytest.approx(total.grams_co2)) == (1, 0.75, 150)


def test_the_price_is_that_of_the_hour(host, gpus):
    roll_up(host, {gpus[0]: KWH}), roll_up(host, {gpus[0]: KWH}, start_ms=T0 + HOUR_MS)
    night = Tariff(0.4, bands=(Band(frozenset(range(7)), 13 * 60, 14 * 60, 0.1),))

    assert account(hours=2, rates=Rates(night, None, None)).total.cost == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("host", {"gpu-a01": 300, "gpu-b01": 50}),
        ("cluster", {"": 50, "alpha": 300}),
        ("label:team", {"": 50, "vision": 300}),
        ("model", {"NVIDIA A40": 50, "NVIDIA H100 80GB HBM3": 300}),
        ("day", {"2026-11-20": 350}),
    ],
)
def test_groups_share_the_total_out(host, gpus, group_by, expected):
    other = make_device(make_host("gpu-b01"), model="NVIDIA A40")
    roll_up(host, {gpus[0]: 100, gpus[1]: 200}), roll_up(other.host, {other: 50})

    found = account(group_by=group_by)

    assert {group.key: group.joules for group in found.groups} == expected
    assert found.total.joules == 350


def test_half_an_hour_is_charged_by_the_meter_whether_its_hour_is_made_or_not(host, gpus):
    node = make_device(host, 0, kind=DeviceKind.NODE, uuid="NODE-a")
    roll_up(host, {gpus[0]: KWH, node: 2 * KWH}, covered=0.4)

    total = account(rates=Rates(Tariff(0.5), None, None)).total

    assert (total.cost, total.priced_by) == (1.0, {Scope.NODE})


def test_a_band_that_begins_within_an_hour_holds_from_then_on(host, gpus):
    roll_up(host, {gpus[0]: 4 * KWH}, quarters=[{gpus[0]: joules} for joules in (0, 0, 0, 4 * KWH)])
    late = Tariff(0.1, bands=(Band(frozenset(range(7)), 12 * 60 + 45, 13 * 60, 1.0),))

    assert account(rates=Rates(late, None, None)).total.cost == pytest.approx(4)


@pytest.fixture
def early_minutes(host, gpus):
    """An hour with its quarters, and the first of them with its minutes: all was drawn in the first ten of these."""
    roll_up(host, {gpus[0]: KWH}, quarters=[{gpus[0]: KWH}, *[{gpus[0]: 0}] * 3])
    for minute in range(15):
        roll_up(host, {gpus[0]: KWH / 10 if minute < 10 else 0}, start_ms=T0 + 60_000 * minute, step_seconds=60)


_FROM_TEN_PAST = Tariff(0.1, bands=(Band(frozenset(range(7)), 12 * 60 + 10, 13 * 60, 1.0),))


@pytest.mark.usefixtures("early_minutes")
def test_a_band_off_the_quarter_is_paid_for_by_the_minute():
    total = account(rates=Rates(_FROM_TEN_PAST, None, None)).total

    assert (total.joules, total.cost, total.cost_estimated_share) == (KWH, pytest.approx(0.1), 0)


@pytest.mark.usefixtures("early_minutes")
def test_without_all_of_its_minutes_it_is_shared_out_by_time_and_says_so():
    Rollup.objects.filter(step_seconds=60, start_ms=T0).delete()

    total = account(rates=Rates(_FROM_TEN_PAST, None, None)).total

    assert (total.joules, total.cost) == (KWH, pytest.approx((10 * 0.1 + 5 * 1.0) / 15))
    assert total.cost_estimated_share == pytest.approx(1)


@pytest.mark.usefixtures("early_minutes")
def test_a_recorded_host_is_paid_for_by_the_minute_for_ever(host):
    Host.objects.update(origin=Origin.IMPORTED, last_seen_at=datetime.fromtimestamp(T0 / 1000 + 3600, UTC))
    devices = list(Device.objects.select_related("host"))
    late = datetime.fromtimestamp(T0 / 1000, UTC).replace(year=2040)
    how = {"scope": Scope.DEVICE, "group_by": "", "rates": Rates(_FROM_TEN_PAST, None, None), "zone": ZoneInfo("UTC")}

    assert accounts.accounts(devices, T0, T0 + HOUR_MS, late, **how).total.cost == pytest.approx(0.1)


def test_minutes_are_asked_for_as_long_as_they_are_kept_and_no_longer(host, gpus, settings):
    settings.STEPWATT_RETENTION_1M = 86_400
    for day in (0, 40):
        roll_up(host, {gpus[0]: KWH}, start_ms=T0 - 24 * HOUR_MS * day)
    rates, n_queries = Rates(_FROM_TEN_PAST, None, None), []
    for days in (2, 41):
        with CaptureQueriesContext(connection) as captured:
            account(rates=rates, start_ms=T0 - 24 * HOUR_MS * (days - 1), hours=24 * days)
        n_queries.append(len(captured))

    assert n_queries[0] == n_queries[1]


def test_each_day_knows_how_much_of_it_is_covered(host, gpus):
    roll_up(host, {gpus[0]: 100, gpus[1]: 100}, start_ms=T0 + 11 * HOUR_MS, step_seconds=900)

    found = account(start_ms=T0 + 11 * HOUR_MS, hours=2, group_by="day")

    assert [(day.key, day.asked_seconds) for day in found.groups] == [("2026-11-20", 7200), ("2026-11-21", 7200)]


def test_minutes_stand_in_at_both_ends_and_for_hours_that_are_not_made(host, gpus):
    roll_up(host, {gpus[0]: 3600})
    roll_up(host, {gpus[0]: 9999}, start_ms=T0 + HOUR_MS)
    DirtyRollup.objects.create(host=host, step_seconds=3600, start_ms=T0 + HOUR_MS)
    for minute in (-1, 0, 59, 60, 61, 75):
        roll_up(host, {gpus[0]: 60}, start_ms=T0 + 60_000 * minute, step_seconds=60)

    total = account(start_ms=T0 - 60_000, hours=1 + 3 / 60).total

    assert total.joules == 3600 + 3 * 60


def test_a_host_that_catches_up_has_its_own_hour_alone_read_from_minutes(host, gpus):
    other = make_device(make_host("gpu-a02"))
    for at in range(3):
        roll_up(host, {gpus[0]: 3600}, start_ms=T0 + at * HOUR_MS)
        roll_up(other.host, {other: 3600}, start_ms=T0 + at * HOUR_MS)
    DirtyRollup.objects.create(host=host, step_seconds=900, start_ms=T0 + HOUR_MS + 900_000)
    roll_up(host, {gpus[0]: 60}, start_ms=T0 + HOUR_MS, step_seconds=60)

    found = account(hours=3, group_by="host")

    assert {group.key: group.joules for group in found.groups} == {"gpu-a01": 2 * 3600 + 60, "gpu-a02": 3 * 3600}


def test_which_hours_are_made_is_looked_up_by_host(host, gpus):
    roll_up(host, {gpus[0]: 3600})

    with CaptureQueriesContext(connection) as asked:
        account(group_by="host")

    statements = [each["sql"] for each in asked if 'FROM "telemetry_rollup"' in each["sql"]]
    assert statements
    assert all('"host_id" IN' in each or 'U0."host_id" = ("fleet_host"."id")' in each for each in statements)


def test_half_of_an_hour_is_taken_from_its_minutes(host, gpus):
    roll_up(host, {gpus[0]: 3600})
    for minute in range(60):
        roll_up(host, {gpus[0]: 60}, start_ms=T0 + 60_000 * minute, step_seconds=60)

    assert account(hours=0.5).total.joules == 1800


def test_a_bucket_that_was_made_again_beside_its_joined_row_counts_once(host, gpus):
    keys = np.array(
        [(ENERGY, Field.MEASURED_MILLIJOULES, 0, gpus[0].pk), (ENERGY, Field.COVERED_MILLISECONDS, 0, gpus[0].pk)]
    )
    values = np.array([[60_000] * 60, [60_000] * 60])
    body = statistics.encode_joined(statistics.ordered(keys, values, T0, 60_000))
    Rollup.objects.create(host=host, step_seconds=60, start_ms=T0, n_buckets=60, body=body)
    roll_up(host, {gpus[0]: 90}, start_ms=T0 + 300_000, step_seconds=60)

    assert account().total.joules == 59 * 60 + 90


def test_the_api_answers_with_what_the_meters_showed(host, gpus, settings):
    settings.STEPWATT_TARIFF, settings.STEPWATT_CURRENCY = Tariff(0.5), "EUR"
    roll_up(host, {gpus[0]: KWH})

    answer = script().get("/api/v1/energy", {"start": T0, "end": T0 + HOUR_MS, "group_by": "host"}).json()

    assert (answer["total"]["kwh"], answer["total"]["cost"], answer["currency"]) == (1, 0.5, "EUR")
    assert [group["key"] for group in answer["groups"]] == ["gpu-a01"]


@pytest.mark.parametrize("query", [{"group_by": "colour"}, {"group_by": "label:"}, {"scope": "both"}, {"metric": "x"}])
def test_the_api_refuses_what_it_does_not_know(query):
    answer = script().get("/api/v1/energy", query)

    assert answer.status_code in {400, 422}
    assert answer.json()["error"]["field"] in query


@pytest.mark.parametrize("path", ["energy", "energy/idle"])
def test_more_days_than_an_answer_may_hold_are_refused(path):
    answer = signed_in().get(f"/api/v1/{path}?group_by=day&start=1970-01-01T00:00Z&end=2100-01-01T00:00Z")

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "group_by")
    assert "at most 4,000 days" in answer.json()["error"]["message"]
