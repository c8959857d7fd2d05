"""The attention list: the open alerts, gravest first, what somebody knows of last."""

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import Host
from telemetry import tasks
from telemetry.events import attention
from telemetry.health import alerts
from telemetry.newest import queries
from telemetry.newest.fleet_state import FleetState
from telemetry.simulation.faults import FaultKind
from tests.people import signed_in
from tests.telemetry.watched import WatchedHost

pytestmark = pytest.mark.django_db


@pytest.fixture
def host() -> WatchedHost:
    """A host with four GPUs, of which one is lost and all are slowed down by the power brake."""
    host = WatchedHost(n_gpus=4)
    host.run(20)
    host.suffer(FaultKind.BRAKED, seconds=600)
    host.run(50)
    host.suffer(FaultKind.LOST, seconds=600, device=2)
    host.run(10)
    return host


def listed(**state):
    return attention.of_state(FleetState(timezone.now(), [], **({"cluster": ""} | state)))


def test_equal_alerts_of_a_hosts_devices_are_one_line(host):
    found = {item.title: item for item in listed()}

    assert found["sim-0001, 4 devices: Power throttling"].url == "/hosts/sim-0001/"
    assert "/events/?rule=power_throttling&amp;host=sim-0001" in signed_in().get("/hosts/sim-0001/").content.decode()
    assert found["sim-0001 GPU 2: fell off the bus"].url == f"/devices/{host.uuid(2)}/"


def test_the_gravest_come_first_and_what_is_acknowledged_last(host):
    lost = alerts.open_alerts().get(rule="device_lost")
    assert listed()[0].health == "crit"
    for alert in alerts.open_alerts().filter(device=lost.device_id, severity="critical"):
        alerts.acknowledge(alert.pk, Actor("ada"), host.moment)

    assert [item.acknowledged_by for item in listed()] == ["", "ada", "ada"]
    assert [item.health for item in listed()] == ["warn", "crit", "crit"]


def test_a_cluster_or_a_host_lists_its_own(host):
    assert listed(cluster="other") == []
    assert attention.of_state(queries.fleet_state(timezone.now(), cluster="")) == listed()
    state = queries.host_state(Host.objects.get(), timezone.now())
    assert len(attention.of_state(FleetState(timezone.now(), [state]))) == len(listed())


def test_what_is_for_information_needs_nobody(host):
    before = len(listed())
    host.suffer(FaultKind.PROGRAM, device=1)
    host.run(20)

    assert alerts.open_alerts().filter(rule="xid_application").exists()
    assert len(listed()) == before


def test_the_beat_task_makes_a_pass():
    tasks.watch_health()

    assert not alerts.open_alerts().exclude(rule="disk_full").exists()
