"""Alerts that take more than a host's readings, raised and cleared by the simulator: from its fault to the alert and its end.

Those of a host's own readings are in tests/telemetry/test_health_device_rules.py and test_health_host_rules.py.
"""

import pytest

from fleet.models import Severity
from telemetry import vendor_sql
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.fleet import Shape
from telemetry.simulation.planned import Planned
from tests.telemetry.watched import START, firing, rules_firing
from tests.training.simulated_fleet import WatchedFleet
from training.models import LossAgreement, Outcome

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet_of(outbox, tmp_path):
    """Return what makes a fleet of so many idle hosts, on which nothing goes wrong but what is named."""

    def make(n_hosts, *faults, n_gpus=1, is_idle=True, stride=1):
        shape = Shape(n_hosts, n_gpus, is_idle=is_idle, faults=faults)
        return WatchedFleet(shape, outbox, tmp_path, stride=stride)

    return make


def of_device(fleet, rule, host=0, device=0):
    """Return the open alert of the rule and a GPU of the fleet, None where there is none."""
    return firing().get((rule, f"device:{fleet.simulation.fleet.machines[host].devices[device].uuid}"))


def test_a_gpu_that_is_slow_for_a_while_holds_up_its_run_and_is_told_until_it_recovers(fleet_of):
    slow = Planned(FaultKind.SLOW, device=2, after_seconds=240, seconds=420)
    fleet = fleet_of(1, slow, n_gpus=6, is_idle=False, stride=5)
    fleet.run(240)
    assert not firing()
    fleet.run(420)

    alert = of_device(fleet, "straggler", device=2)
    assert {key[0] for key in firing()} == {"straggler", "below_peers"}
    assert alert.text.startswith("llm-70b-pretrain: rank 2 (sim-0001 GPU 2) computes")
    assert alert.detail["values"]["gpus_waiting"] == 5
    assert of_device(fleet, "below_peers", device=2)
    fleet.run_until(lambda: not firing())


def test_a_gpu_whose_jobs_take_longer_than_before_is_below_its_baseline_until_they_do_not(fleet_of):
    fleet = fleet_of(1, Planned(FaultKind.SLOW, after_seconds=400, seconds=400))
    fleet.run(10)
    before = [fleet.launch("sim-0001")[0].verdict for _ in range(10)]
    assert {verdict.outcome for verdict in before[5:]} == {Outcome.PASS}
    assert fleet.now < START + 400
    fleet.run(START + 400 - fleet.now)

    assert fleet.launch("sim-0001")[0].verdict.outcome == Outcome.SUSPECT
    fleet.run_until(lambda: "below_baseline" in rules_firing())
    alert = of_device(fleet, "below_baseline")
    assert alert.detail["values"]["slowdown_ratio"] == pytest.approx(1 / 3, abs=0.03)
    assert "5 fresh runs" in alert.text
    assert fleet.now < START + 800
    fleet.run(START + 800 - fleet.now)
    assert fleet.launch("sim-0001")[0].verdict.outcome == Outcome.PASS
    fleet.run_until(lambda: "below_baseline" not in rules_firing(), seconds=100)


def test_a_gpu_whose_losses_differ_from_its_peers_is_told_until_they_do_not(fleet_of):
    fleet = fleet_of(3, Planned(FaultKind.CORRUPT, host=2, after_seconds=10, seconds=90))
    fleet.run(10)
    fleet.launch(*hosts(3))

    fleet.run_until(lambda: "silent_corruption" in rules_firing(), seconds=100)
    alert = of_device(fleet, "silent_corruption", host=1)
    assert {key[0] for key in firing()} == {"silent_corruption"}
    assert (alert.severity, alert.host.name) == (Severity.CRITICAL, "sim-0002")
    assert "its loss differs from 2 other devices'" in alert.text
    fleet.run(max(0, START + 100 - fleet.now))
    assert {job.verdict.agreement for job in fleet.launch(*hosts(3))} == {LossAgreement.SAME}
    fleet.run_until(lambda: not firing(), seconds=100)


def hosts(n):
    return [f"sim-{number:04}" for number in range(1, n + 1)]


def test_what_comes_late_is_told_until_it_comes_in_time(fleet_of):
    fleet = fleet_of(1, Planned(FaultKind.DELAYED, after_seconds=60, seconds=300), stride=5)
    fleet.run(60)
    assert not firing()
    fleet.run_until(lambda: "agent_lagging" in rules_firing(), seconds=300)

    assert firing()["agent_lagging", "host:sim-0001"].detail["values"]["sample_age_seconds"] >= 60
    fleet.run_until(lambda: not firing())


def test_a_database_that_samples_fill_to_its_limit_is_told_until_the_limit_goes_up(fleet_of, settings):
    fleet = fleet_of(2, n_gpus=8, is_idle=False, stride=5)
    limit = settings.STEPWATT_DISK_LIMIT = round(vendor_sql.held_bytes() / 0.88)
    fleet.run(10)
    assert not firing()
    fleet.run_until(lambda: "disk_full" in rules_firing())

    alert = firing()["disk_full", "database"]
    assert alert.severity == Severity.WARNING
    assert alert.detail["values"]["held_bytes"] >= 0.9 * limit == 0.9 * alert.detail["values"]["limit_bytes"]
    settings.STEPWATT_DISK_LIMIT = 2 * limit
    fleet.run(70)
    assert "disk_full" not in rules_firing()
