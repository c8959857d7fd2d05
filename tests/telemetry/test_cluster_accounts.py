"""Energy accounts of one cluster: its own of the fleet's, read from groups where these lie in it whole."""

from dataclasses import asdict
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import Host
from telemetry import rollups
from telemetry.accounts import group_names
from telemetry.accounts.account import Scope
from telemetry.accounts.fleet import fleet_accounts
from telemetry.message.wire import DeviceKind
from tests.factories import move
from tests.telemetry.account_fleet import AFTER, HOUR, NOW, RATES, T0, make_fleet, rename, report, said
from tests.telemetry.batches import enrolled

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400


@pytest.fixture
def fleet():
    make_fleet()


def of_clusters(group_by, scope=Scope.DEVICE, rates=RATES["flat"], span=(0, 3 * HOUR)):
    """Return, of each cluster, its accounts and, of the whole fleet's, its own and those of its hosts."""
    asked = (T0 + span[0], T0 + span[1], NOW)
    how = {"scope": scope, "rates": rates, "zone": ZoneInfo("Asia/Kolkata")}
    whole = fleet_accounts(*asked, group_by="cluster", **how)
    hosts = fleet_accounts(*asked, group_by="host", **how)
    for cluster in Host.objects.order_by("cluster").values_list("cluster", flat=True).distinct():
        names = set(Host.objects.filter(cluster=cluster).values_list("name", flat=True))
        own = fleet_accounts(*asked, group_by=group_by, cluster=cluster, **how)
        yield own, whole.of(cluster), [each for each in hosts.groups if each.key in names]


def known(account):
    return {name: value for name, value in asdict(account).items() if name != "key"}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.usefixtures("fleet")
def test_the_accounts_of_a_cluster_are_its_own_of_the_fleets(scope, moved):
    if moved:
        move("nvidia-a-0", Host.objects.get(name="b"), T0 + HOUR)
        rename("c")
        rollups.roll_up(60, NOW)
    for group_by in ("", "cluster", "model", "label:rack", "host"):
        for own, of_fleet, hosts in of_clusters(group_by, scope):
            assert known(own.total) == approx(known(of_fleet)), group_by
            if group_by == "host":
                assert own.groups == hosts
            if group_by in {"cluster", "label:rack", "host"}:
                assert sum(group.joules or 0 for group in own.groups) == pytest.approx(own.total.joules or 0), group_by


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.usefixtures("fleet")
def test_the_days_of_all_clusters_add_up_to_those_of_the_fleet(scope):
    move("nvidia-a-0", Host.objects.get(name="b"), T0 + HOUR)
    rollups.roll_up(60, NOW)
    how = {"scope": scope, "group_by": "day", "rates": RATES["flat"], "zone": ZoneInfo("Asia/Kolkata")}
    whole = fleet_accounts(T0, T0 + 3 * HOUR, NOW, **how)
    parts = [own for own, *_ in of_clusters("day", scope)]

    assert len(whole.groups) == 1
    for name in ("measured", "estimated", "covered_seconds", "asked_seconds", "cost", "grams_co2"):
        found = sum(getattr(group, name) or 0 for part in parts for group in part.groups)
        assert found == pytest.approx(getattr(whole.groups[0], name)), name


def approx(said):
    return {name: pytest.approx(value) if isinstance(value, float) else value for name, value in said.items()}


@pytest.mark.usefixtures("fleet")
def test_the_days_of_a_cluster_are_read_from_its_group_alone():
    with CaptureQueriesContext(connection) as asked:
        found = fleet_accounts(
            T0, T0 + 3 * HOUR, NOW, scope=Scope.DEVICE, group_by="day", rates=RATES["flat"], zone=ZoneInfo("UTC"),
            cluster="east",
        )  # fmt: skip

    assert found.total.joules > 0
    of_hosts = (each["sql"] for each in asked if "fleet_host" not in each["sql"])
    assert not [sql for sql in of_hosts if 'FROM "telemetry_rollup"' in sql]


def of_group_rollups_alone(group_by, cluster, scope=Scope.DEVICE):
    """Return the accounts of a cluster, and whether no host's rollup was read for them."""
    with CaptureQueriesContext(connection) as asked:
        found = fleet_accounts(
            T0, T0 + 3 * HOUR, NOW, scope=scope, group_by=group_by, rates=RATES["flat"], zone=ZoneInfo("UTC"),
            cluster=cluster,
        )  # fmt: skip
    of_hosts = (each["sql"] for each in asked if "fleet_host" not in each["sql"])
    return found, not [sql for sql in of_hosts if 'FROM "telemetry_rollup"' in sql]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(
    ("group_by", "cluster", "stands"),
    [
        ("model", "west", True),  # all of it is one model, others have it too
        ("model", "north", True),  # two models that nobody else has
        ("model", "east", False),  # one of its models is in the west too
        ("label:rack", "west", True),
        ("label:rack", "east", False),  # a host without the label, as others are
        ("label:nobody", "east", True),
        ("cluster", "east", True),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_groups_within_a_cluster_are_those_of_its_hosts_and_read_from_groups_that_lie_in_it_whole(
    monkeypatch, group_by, cluster, stands, scope
):
    enrolled("e", cluster="north", labels={"rack": "r3"})
    report("e", DeviceKind.NVIDIA, 200, model="B200", sequence=0)
    report("e", DeviceKind.NVIDIA, 250, index=1, model="GB300", sequence=1)
    report("e", DeviceKind.NODE, 600, model="made for e", sequence=2)
    rollups.roll_up(60, NOW)
    found, is_of_groups = of_group_rollups_alone(group_by, cluster, scope)
    monkeypatch.setattr(group_names, "of_account", lambda *_: {})
    of_hosts, _ = of_group_rollups_alone(group_by, cluster, scope)

    assert said(found) == said(of_hosts)
    assert found.total.joules or (scope is Scope.NODE and cluster == "west")
    assert is_of_groups is (stands or (scope is Scope.NODE and group_by == "model"))


@pytest.mark.usefixtures("fleet")
def test_a_cluster_that_a_device_has_left_is_read_from_its_hosts():
    move("nvidia-a-0", Host.objects.get(name="b"), AFTER)
    rollups.roll_up(60, NOW)

    found, is_of_groups = of_group_rollups_alone("model", "east")

    assert {group.key: group.joules is None for group in found.groups} == {"": False, "A100": False, "H100": False}
    assert not is_of_groups
