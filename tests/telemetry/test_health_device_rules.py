"""Rules of a device, each raised and cleared by the simulator: from its agent's batch to the open alert, and to its end."""

from dataclasses import replace

import pytest

from fleet.models import Severity
from telemetry.health import thresholds
from telemetry.health.watch import watch
from telemetry.models import LatestState
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.load import IDLE, PHASES, Load, Session
from tests.telemetry.watched import WatchedHost, firing, rules_firing

pytestmark = pytest.mark.django_db


@pytest.fixture
def host() -> WatchedHost:
    """A host at work, well watched, with nothing wrong."""
    host = WatchedHost()
    host.run(60)
    assert not firing()
    return host


def of(host: WatchedHost, rule: str, device: int = 0):
    """Return the open alert of the rule and the host's device."""
    return firing()[rule, f"device:{host.uuid(device)}"]


def test_a_device_off_the_bus_is_lost_until_it_has_answered_for_a_while(host):
    host.suffer(FaultKind.LOST, seconds=60)
    host.run(20)

    alert = of(host, "device_lost")
    assert (alert.text, alert.severity, alert.host, alert.device.uuid) == (
        "fell off the bus", "critical", host.row, host.uuid(),
    )  # fmt: skip
    assert "power-cycle" in alert.detail["action"]
    host.run(60)
    assert "device_lost" in rules_firing()
    host.run(60)
    assert "device_lost" not in rules_firing()


def test_a_lost_device_raises_its_xid_too_which_passes_after_an_hour(host):
    thresholds.set_value("xid_hardware", "recent_seconds", 120)
    host.suffer(FaultKind.LOST, seconds=30)
    host.run(20)

    alert = of(host, "xid_hardware")
    assert (alert.text, alert.severity) == ("XID 79: GPU has fallen off the bus", "critical")
    assert alert.detail["values"]["xids"] == "79 × 1"
    host.run(130)
    assert "xid_hardware" not in rules_firing()


def test_an_xid_of_a_program_is_no_fault_of_the_device(host):
    thresholds.set_value("xid_application", "recent_seconds", 60)
    host.suffer(FaultKind.PROGRAM)
    host.run(20)

    assert (of(host, "xid_application").text, of(host, "xid_application").severity) == (
        "XID 31: GPU memory page fault", Severity.INFO,
    )  # fmt: skip
    assert "xid_hardware" not in rules_firing()
    host.run(60)
    assert not firing()


def test_a_call_that_hangs_is_told_after_a_time_and_ends(host):
    host.suffer(FaultKind.HANGING, seconds=60, device=1)
    host.run(20)
    assert not firing()
    host.run(20)

    assert of(host, "driver_hanging", device=1).text == "a driver call does not return"
    host.run(120)
    assert not firing()


def test_a_driver_that_is_away_is_told_after_a_time_and_ends(host):
    host.suffer(FaultKind.UNLOADED, seconds=60)
    host.run(40)

    assert "modprobe" in of(host, "driver_unreachable").detail["action"]
    host.run(100)
    assert not firing()


def test_a_device_that_must_be_reset_is_told_until_it_is(host):
    host.suffer(FaultKind.STUCK, seconds=60)
    host.run(20)

    assert (of(host, "device_reset").text, of(host, "device_reset").severity) == ("must be reset", Severity.CRITICAL)
    host.run(120)
    assert not firing()


def test_a_device_that_its_host_does_not_name_any_more_is_lost(host):
    row = LatestState.objects.get()
    row.devices[host.uuid()]["at_ms"] -= 600_000
    row.save()
    watch(host.moment)

    assert of(host, "device_lost").text == "its host reports, this device does not"
    host.run(80)
    assert not firing()


def test_a_memory_error_is_three_alerts_which_end_when_the_driver_is_loaded_again(host):
    host.suffer(FaultKind.MEMORY)
    host.run(20)

    assert rules_firing() == {"ecc_uncorrected", "row_remap_pending", "xid_hardware"}
    assert of(host, "xid_hardware").severity == Severity.WARNING  # as NVIDIA's catalogue has XID 94
    assert of(host, "ecc_uncorrected").detail["values"] == {"ecc_uncorrected_total": 1}
    host.suffer(FaultKind.LOST, seconds=20)
    host.run(120)
    assert rules_firing() == {"xid_hardware"}


def test_a_row_that_could_not_be_replaced_calls_for_another_board(host):
    host.suffer(FaultKind.UNREPLACED)
    host.run(20)

    assert "board replaced" in of(host, "row_remap_failed").detail["action"]
    host.suffer(FaultKind.LOST, seconds=20)
    host.run(120)
    assert "row_remap_failed" not in rules_firing()


def test_heat_that_slows_a_gpu_down_is_told_with_its_temperature(host):
    host.task.load = PHASES["compute"]
    host.suffer(FaultKind.OVERHEATED, seconds=180)
    host.run(180)

    alert = of(host, "thermal_throttling")
    assert alert.text == "software thermal slowdown"
    assert alert.detail["values"]["temperature_celsius"] > 70
    assert alert.detail["values"]["sm_clock_hertz"] < alert.detail["values"]["sm_clock_max_hertz"]
    host.run(360)
    assert "thermal_throttling" not in rules_firing()


def test_the_power_brake_is_told_of_every_gpu_that_it_slows(host):
    host.suffer(FaultKind.BRAKED, seconds=60)
    host.run(50)

    assert {key for key in firing() if key[0] == "power_throttling"} == {
        ("power_throttling", f"device:{host.uuid(index)}") for index in (0, 1)
    }
    host.run(220)
    assert not firing()


def test_a_power_cap_that_is_reached_is_the_rule_under_load_and_no_alert(host):
    host.task.load = replace(PHASES["compute"], tensor=0.95, dram=0.8)
    host.run(120)

    assert not firing()


def test_hot_memory_is_raised_at_one_point_and_cleared_at_another(host):
    host.task.load = PHASES["compute"]
    host.suffer(FaultKind.HOT_MEMORY, seconds=400)
    host.run(400)

    alert = of(host, "hot_memory")
    assert alert.detail["values"]["memory_temperature_celsius"] >= alert.detail["thresholds"]["celsius"] == 95
    host.run(600)
    assert not firing()


def test_a_narrow_pcie_link_is_degraded(host):
    host.suffer(FaultKind.NARROW, seconds=100)
    host.run(90)

    assert of(host, "pcie_degraded").text == "PCIe runs on 8 of 16 lanes"
    host.run(220)
    assert not firing()


def test_nvlink_errors_of_an_hour_are_told_until_the_hour_is_over(host):
    host.suffer(FaultKind.LINK)
    host.run(20)

    assert of(host, "nvlink_degraded").text == "40 NVLink errors in the last hour"
    host.now += 3600
    host.run(80)
    assert not firing()


def test_an_allocated_gpu_that_does_nothing_is_told_until_it_works(host):
    thresholds.set_value("allocated_idle", "for_seconds", 60)
    host.machine.task = Session(host.now - 3500)  # a break that ends in 100 s
    host.run(90)

    alert = of(host, "allocated_idle")
    assert (alert.detail["values"]["allocated_by"], alert.detail["values"]["gpu_utilization_ratio"]) == ("Slurm", 0)
    host.run(140)
    assert not firing()


def test_a_gpu_that_waits_for_data_is_allocated_and_idle(host):
    thresholds.set_value("allocated_idle", "for_seconds", 60)
    host.task.load = PHASES["starve"]
    host.run(80)

    assert of(host, "allocated_idle").detail["values"]["gpu_utilization_ratio"] == 0.04


def test_a_free_gpu_may_be_idle(host):
    thresholds.set_value("allocated_idle", "for_seconds", 20)
    host.task.load = IDLE
    host.run(60)

    assert not firing()


def test_a_gpu_that_is_slower_than_its_peers_is_told():
    host = WatchedHost(n_gpus=8)
    thresholds.set_value("below_peers", "for_seconds", 30)
    host.machine.gpus[5].condition.clock = 0.86
    host.run(60)

    assert set(firing()) == {("below_peers", f"device:{host.uuid(5)}")}
    alert = of(host, "below_peers", device=5)
    assert alert.detail["values"]["shortfall_ratio"] == pytest.approx(0.14, abs=0.02)
    assert "below the median of 8 devices of ml-train on sim-0001" in alert.text
    host.machine.gpus[5].condition.clock = 1.0
    host.run(200)
    assert not firing()


def test_what_is_slower_than_its_peers_is_not_known_while_nobody_works():
    host = WatchedHost(n_gpus=8)
    thresholds.set_value("below_peers", "for_seconds", 0)
    host.machine.gpus[5].condition.clock = 0.86
    host.run(20)
    host.task.load = Load(sm=0.0, memory=0.88)
    host.run(300)

    assert rules_firing() == {"below_peers"}


def test_of_three_gpus_none_can_be_told_from_its_peers():
    host = WatchedHost(n_gpus=3)
    thresholds.set_value("below_peers", "for_seconds", 0)
    host.machine.gpus[0].condition.clock = 0.5
    host.run(60)

    assert not firing()
