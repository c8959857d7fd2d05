"""Alerts that take more than a host's readings, raised and cleared by the simulator: from its fault to the alert and its end.

Those of a host's own readings are in tests/telemetry/test_health_device_rules.py and test_health_host_rules.py; the last test
here has the list of all.
"""

import inspect
import re

import pytest

from fleet.models import Severity
from telemetry import vendor_sql
from telemetry.health import rules
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.fleet import Shape
from telemetry.simulation.planned import Planned
from tests.telemetry import test_health_device_rules as of_devices
from tests.telemetry import test_health_host_rules as of_hosts
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
    fleet = fleet_of(1, Planned(FaultKind.SLOW, after_seconds=180, seconds=240))
    fleet.run(10)
    before = [fleet.launch("sim-0001")[0].verdict for _ in range(10)]
    assert {verdict.outcome for verdict in before[5:]} == {Outcome.PASS}
    assert fleet.now < START + 180
    fleet.run(START + 180 - fleet.now)

    assert fleet.launch("sim-0001")[0].verdict.outcome == Outcome.SUSPECT
    fleet.run_until(lambda: "below_baseline" in rules_firing())
    alert = of_device(fleet, "below_baseline")
    assert alert.detail["values"]["slowdown_ratio"] == pytest.approx(1 / 3, abs=0.03)
    assert "5 fresh runs" in alert.text
    assert fleet.now < START + 420
    fleet.run(START + 420 - fleet.now)
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
    assert alert.detail["values"]["limit_bytes"] == limit
    assert 0.9 * limit <= alert.detail["values"]["held_bytes"] < 0.95 * limit
    settings.STEPWATT_DISK_LIMIT = 2 * limit
    fleet.run(70)
    assert "disk_full" not in rules_firing()


RAISED_AND_CLEARED = {
    "host_silent": of_hosts.test_a_silent_host_is_told_and_ends_when_it_has_spoken_for_a_while,
    "agent_dropping": of_hosts.test_batches_that_the_agent_gave_up_are_told_for_an_hour,
    "spool_failed": of_hosts.test_a_spool_that_cannot_be_written_is_told_until_it_can,
    "agent_lagging": test_what_comes_late_is_told_until_it_comes_in_time,
    "clock_skewed": of_hosts.test_a_clock_that_runs_ahead_is_told_until_it_is_set_right,
    "device_lost": of_devices.test_a_device_off_the_bus_is_lost_until_it_has_answered_for_a_while,
    "device_reset": of_devices.test_a_device_that_must_be_reset_is_told_until_it_is,
    "driver_hanging": of_devices.test_a_call_that_hangs_is_told_after_a_time_and_ends,
    "driver_unreachable": of_devices.test_a_driver_that_is_away_is_told_after_a_time_and_ends,
    "xid_hardware": of_devices.test_a_lost_device_raises_its_xid_too_which_passes_after_an_hour,
    "xid_application": of_devices.test_an_xid_of_a_program_is_no_fault_of_the_device,
    "ecc_uncorrected": of_devices.test_a_memory_error_is_three_alerts_which_end_when_the_driver_is_loaded_again,
    "row_remap_pending": of_devices.test_a_memory_error_is_three_alerts_which_end_when_the_driver_is_loaded_again,
    "row_remap_failed": of_devices.test_a_row_that_could_not_be_replaced_calls_for_another_board,
    "thermal_throttling": of_devices.test_heat_that_slows_a_gpu_down_is_told_with_its_temperature,
    "power_throttling": of_devices.test_the_power_brake_is_told_of_every_gpu_that_it_slows,
    "hot_memory": of_devices.test_hot_memory_is_raised_at_one_point_and_cleared_at_another,
    "pcie_degraded": of_devices.test_a_narrow_pcie_link_is_degraded,
    "nvlink_degraded": of_devices.test_nvlink_errors_of_an_hour_are_told_until_the_hour_is_over,
    "allocated_idle": of_devices.test_an_allocated_gpu_that_does_nothing_is_told_until_it_works,
    "below_peers": test_a_gpu_that_is_slow_for_a_while_holds_up_its_run_and_is_told_until_it_recovers,
    "power_budget": of_hosts.test_a_budget_of_power_is_told_when_it_is_reached_and_ends_when_less_is_drawn,
    "nothing_heard": of_hosts.test_where_all_hosts_are_silent_the_server_is_told_of_and_not_each_host,
    "disk_full": test_a_database_that_samples_fill_to_its_limit_is_told_until_the_limit_goes_up,
    "straggler": test_a_gpu_that_is_slow_for_a_while_holds_up_its_run_and_is_told_until_it_recovers,
    "below_baseline": test_a_gpu_whose_jobs_take_longer_than_before_is_below_its_baseline_until_they_do_not,
    "silent_corruption": test_a_gpu_whose_losses_differ_from_its_peers_is_told_until_they_do_not,
}


def test_each_rule_has_a_test_in_which_the_simulator_raises_and_clears_it():
    assert set(RAISED_AND_CLEARED) == set(rules.by_name())
    for rule, test in RAISED_AND_CLEARED.items():
        told = inspect.getsource(test)
        assert f'"{rule}"' in told
        assert re.search(r"not firing\(\)|not in rules_firing\(\)|rules_firing\(\) == ", told), rule
