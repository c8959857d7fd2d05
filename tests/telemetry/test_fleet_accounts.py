"""The whole fleet's energy from the groups' rollups: the same accounts as from each host's."""

import time
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import Device, Host, Origin
from telemetry import rollups
from telemetry.accounts import accounts
from telemetry.accounts.account import Scope
from telemetry.accounts.fleet import fleet_accounts
from telemetry.maintenance import retention
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.models import DirtyGroup, DirtyRollup, GroupRollup, RollupGroup
from telemetry.store import verify
from tests.factories import move
from tests.telemetry.account_fleet import (
    AFTER,
    HOUR,
    MINUTE,
    NOW,
    RATES,
    T0,
    make_fleet,
    rename,
    report,
    said,
)
from tests.telemetry.batches import enrolled, payload, take

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400


@pytest.fixture
def fleet():
    make_fleet()


def both(group_by="", scope=Scope.DEVICE, rates=RATES["flat"], span=(0, 3 * HOUR), now=NOW):
    asked = (T0 + span[0], T0 + span[1], now)
    how = {"scope": scope, "group_by": group_by, "rates": rates, "zone": ZoneInfo("Asia/Kolkata")}
    devices = list(Device.objects.select_related("host"))
    return said(accounts.accounts(devices, *asked, **how)), said(fleet_accounts(*asked, **how))


GROUPS = ["", "cluster", "model", "label:rack", "label:nobody", "day", "host", "device"]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.usefixtures("fleet")
def test_the_accounts_are_those_of_the_hosts(scope, rates):
    for group_by in GROUPS:
        for span in ((0, 3 * HOUR), (7 * MINUTE, 2 * HOUR + 20 * MINUTE), (5 * MINUTE, 9 * MINUTE), (-HOUR, 0)):
            expected, found = both(group_by, scope, RATES[rates], span)

            assert found == expected, (group_by, span)


@pytest.mark.usefixtures("fleet")
def test_what_is_made_is_read_from_the_groups_alone():
    with CaptureQueriesContext(connection) as asked:
        found = fleet_accounts(
            T0, T0 + 3 * HOUR, NOW, scope=Scope.DEVICE, group_by="cluster", rates=RATES["flat"], zone=ZoneInfo("UTC")
        )

    assert found.total.joules > 0
    of_hosts = (each["sql"] for each in asked if "fleet_host" not in each["sql"])  # but for where recordings begin
    assert not [sql for sql in of_hosts if 'FROM "telemetry_rollup"' in sql]
    assert [each["sql"] for each in asked if 'FROM "telemetry_grouprollup"' in each["sql"]]


@pytest.mark.usefixtures("fleet")
def test_a_band_off_the_quarter_is_paid_for_by_the_minute_as_long_as_minutes_are_kept(settings):
    asked = (T0, T0 + 3 * HOUR, NOW)
    how = {"scope": Scope.DEVICE, "group_by": "cluster", "rates": RATES["odd"], "zone": ZoneInfo("UTC")}
    exact = fleet_accounts(*asked, **how).total
    settings.STEPWATT_RETENTION_1M = 3600
    coarse = fleet_accounts(*asked, **how).total

    assert exact.cost_estimated_share == 0
    assert 0 < coarse.cost_estimated_share < 0.3
    assert coarse.cost != exact.cost


@pytest.mark.usefixtures("fleet")
def test_what_came_late_counts_as_soon_as_it_is_made():
    report("b", DeviceKind.NVIDIA, 350, index=1, model="H100", sequence=1, first=200, n=50)
    rollups.roll_up(0, NOW)  # sees the new device, and makes nothing yet
    for group_by in GROUPS:
        expected, found = both(group_by, rates=RATES["free"])
        assert [each["estimated"] for each in found] == [each["estimated"] for each in expected]

    rollups.roll_up(60, NOW)

    assert not DirtyRollup.objects.exists()
    assert not DirtyGroup.objects.exists()
    for group_by in GROUPS:
        expected, found = both(group_by)
        assert found == expected, group_by


@pytest.mark.usefixtures("fleet")
def test_a_host_that_changes_its_cluster_takes_its_energy_along_at_once():
    Host.objects.filter(name="a").update(cluster="north", labels={"rack": "r9"})
    before = {}
    for group_by in GROUPS:
        before[group_by], found = both(group_by)
        assert found == before[group_by], group_by

    rollups.roll_up(60, NOW)

    for group_by in GROUPS:
        assert both(group_by)[1] == before[group_by], group_by


@pytest.mark.usefixtures("fleet")
def test_what_a_device_drew_before_it_moved_stays_with_its_host_of_then():
    def of_hosts():
        return {each["key"]: (each["measured"], each["estimated"], each["cost"]) for each in both("host")[0]}

    before = of_hosts()
    move("nvidia-a-0", Host.objects.get(name="b"), AFTER)

    assert of_hosts() == before


def test_a_device_that_moved_within_an_hour_is_counted_on_both_hosts():
    for place, name in enumerate(("a", "b")):
        enrolled(name)
        report(name, DeviceKind.NODE, 900, sequence=0, n=1)
        device = DeviceInfo("GPU-1", DeviceKind.NVIDIA, 0, "H100")
        if place:
            move("GPU-1", Host.objects.get(name=name), T0 + place * 1_800_000)
        times = [T0 + place * 1_800_000 + 10_000 * tick for tick in range(61)]
        columns = {"power_draw_watts": [100.0] * 61}
        take(payload(times, columns, host=name, device=device, sequence=1, sample_seconds=10.0), NOW)
        rollups.roll_up(60, NOW)

    expected, found = both()

    assert found == expected
    assert found[0]["estimated"] == 2 * 60_000


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("days", [100, 2000])
def test_a_recording_older_than_the_groups_statistics_counts_whole(days):
    """Its own minutes and hours are kept whatever their age, those of its groups are not."""
    later = NOW + timedelta(days=days)
    Host.objects.update(origin=Origin.IMPORTED)
    retention.retire_groups(later, time.monotonic() + 600)

    for group_by in ("", "cluster", "day"):
        expected, found = both(group_by, span=(7 * MINUTE, 2 * HOUR + 20 * MINUTE), now=later)

        assert found == expected, group_by
        assert found[0]["covered_seconds"] != 0


def test_what_is_not_known_has_no_cost():
    """Devices that tell no power: their energy is unknown, and so is what it costs. Missing is never zero."""
    enrolled("a", cluster="east")
    device = DeviceInfo("GPU-a", DeviceKind.NVIDIA, 0, "H100")
    times = [T0 + 10_000 * tick for tick in range(900)]
    take(payload(times, {"gpu_utilization_ratio": [0.5] * 900}, host="a", device=device, sample_seconds=10.0), NOW)
    rollups.roll_up(60, NOW)
    asked = {"scope": Scope.DEVICE, "group_by": "cluster", "rates": RATES["flat"], "zone": ZoneInfo("UTC")}
    found = fleet_accounts(T0, T0 + 2 * HOUR, NOW, **asked)

    for account in (found.total, *found.groups):
        assert (account.joules, account.cost, account.grams_co2, account.why_unknown) == (
            None,
            None,
            None,
            "nothing was measured",
        )


def test_energy_that_only_a_node_tells_is_said_to_be_so():
    report("a", DeviceKind.NODE, 900, sequence=0)
    rollups.roll_up(60, NOW)
    asked = {"scope": Scope.DEVICE, "group_by": "", "rates": RATES["flat"], "zone": ZoneInfo("UTC")}
    total = fleet_accounts(T0, T0 + 2 * HOUR, NOW, **asked).total

    assert (total.joules, total.why_unknown) == (None, "only nodes' own meters tell, no device does")
    assert total.cost > 0


NEW = {"new", "north", "r9"}  # what stands for the host of the new name, which has drawn nothing yet


@pytest.mark.usefixtures("fleet")
def test_what_a_machine_drew_under_an_old_name_stays_with_that_and_is_not_lost():
    before = {group_by: both(group_by)[0] for group_by in GROUPS}
    rename("a")

    for _ in range(2):
        for group_by in GROUPS:
            expected, found = both(group_by)
            assert found == expected, group_by
            assert [each for each in found if each["key"] not in NEW] == before[group_by], group_by
        rollups.roll_up(60, NOW)


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("group_by", ["", "host"])
def test_no_host_is_known_for_longer_than_its_devices_were_there(group_by):
    move("nvidia-a-0", Host.objects.get(name="b"), T0 + HOUR)
    asked = {"scope": Scope.DEVICE, "group_by": group_by, "rates": RATES["flat"], "zone": ZoneInfo("UTC")}
    found = fleet_accounts(T0, T0 + 2 * HOUR, NOW, **asked)

    asked_hours = {group.key: group.asked_seconds / 3600 for group in found.groups if group.key != "d"}
    assert asked_hours == ({"a": 3, "b": 3, "c": 2} if group_by else {})
    assert found.total.covered_share == pytest.approx(0.9791, abs=0.001)


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("uuid", ["nvidia-a-0", "nvidia-b-0", "node-a-0", "cpu-c-0"])
def test_groups_charge_what_a_device_drew_to_its_host_of_then(uuid, scope):
    """One leaves another behind, one is the last of its host, one is a meter, one becomes a second to none."""
    move(uuid, Host.objects.get(name="d"), AFTER)
    before = {group_by: both(group_by, scope)[0] for group_by in GROUPS}
    rollups.roll_up(60, NOW)

    for group_by in GROUPS:
        expected, found = both(group_by, scope)
        assert found == expected == before[group_by], group_by


@pytest.mark.usefixtures("fleet")
def test_what_comes_late_for_an_old_name_counts_in_the_groups():
    rename("a")
    rollups.roll_up(60, NOW)
    DirtyRollup.objects.bulk_create(
        DirtyRollup(host=Host.objects.get(name="a"), step_seconds=900, start_ms=T0 + n * 900_000) for n in range(4)
    )
    GroupRollup.objects.all().delete()
    rollups.roll_up(60, NOW)

    marked = set(RollupGroup.objects.filter(pk__in=GroupRollup.objects.values("group")).values_list("value", "devices"))
    assert {("east", "account"), ("H100", "account"), ("r1", "account"), ("", "account")} <= marked


@pytest.mark.usefixtures("fleet")
def test_a_device_leaves_its_past_in_the_groups_of_the_host_that_had_it():
    enrolled("new", cluster="north", labels={"rack": "r9"})
    move("nvidia-a-1", Host.objects.get(name="new"), AFTER)
    before = {group_by: both(group_by)[0] for group_by in GROUPS}
    rollups.roll_up(60, NOW)

    for group_by in GROUPS:
        assert both(group_by)[1] == before[group_by], group_by


def test_a_late_batch_of_its_old_host_leaves_what_a_moved_device_drew_there():
    device, columns = DeviceInfo("GPU-1", DeviceKind.NVIDIA, 0, "H100"), {"power_draw_watts": [100.0] * 61}
    for place, name in enumerate(("a", "b")):  # b is heard when a has been silent for too long to keep the device
        times, now = [T0 + place * 1_800_000 + 10_000 * tick for tick in range(61)], NOW + place * timedelta(minutes=20)
        take(payload(times, columns, host=name, device=device, sequence=1, sample_seconds=10.0), now)
        rollups.roll_up(60, now)
    assert Device.objects.get(uuid="GPU-1").host.name == "b"

    report("a", DeviceKind.NODE, 900, sequence=7, first=10, n=20)
    rollups.roll_up(60, NOW)

    expected, found = both()
    assert found == expected
    assert found[0]["estimated"] == 2 * 60_000
    assert not any(verify.host(host, T0, T0 + HOUR, NOW).differences for host in Host.objects.all())
