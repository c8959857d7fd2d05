"""What readings and XIDs say of a device's health, gravest first."""

import pytest

from telemetry.health import Health, judge
from telemetry.nvidia import xid

LINK = {"pcie_link_width": 16, "pcie_link_width_max": 16, "pcie_link_generation": 1, "pcie_link_generation_max": 5}


@pytest.mark.parametrize(
    ("values", "absent", "recent", "health", "note"),
    [
        ({}, {"power_draw_watts": "gpu_is_lost"}, (), "crit", "fell off the bus"),
        ({}, {"power_draw_watts": "reset_required"}, (), "crit", "must be reset"),
        ({}, {"power_draw_watts": "released"}, (), "warn", "driver let go for a reset"),
        ({}, {"power_draw_watts": "timeout"}, (), "warn", "a driver call does not return"),
        ({}, {"power_draw_watts": "driver_away"}, (), "warn", "the driver cannot be reached"),
        ({}, {"power_draw_watts": "unknown"}, (), "warn", "the driver's answers are not understood"),
        ({"xid_last": 0.0}, {"power_draw_watts": "unknown"}, (), "warn", "the driver's answers are not understood"),
        ({}, {"power_draw_watts": "no_permission"}, (), "warn", "the agent may not read it"),
        ({}, {"power_draw_watts": "not_supported", "duty_ratio": "no_workload"}, (), "ok", ""),
        ({"power_draw_watts": 300.0}, {"fan_speed_ratio": "unknown"}, (), "ok", ""),
        ({"row_remap_failure": 1.0}, {}, (), "crit", "a memory row could not be replaced"),
        ({"row_remap_pending": 1.0}, {}, (), "warn", "a memory row waits to be replaced"),
        ({"recovery_action": 2.0}, {}, (), "crit", "the driver asks for a reboot"),
        ({"recovery_action": 9.0}, {}, (), "crit", "the driver asks for recovery action 9"),
        ({"ecc_uncorrected_total": 2.0}, {}, (), "crit", "2 uncorrected memory errors since the driver was loaded"),
        ({"clock_event_reasons": 64.0}, {}, (), "warn", "hardware thermal slowdown"),
        ({**LINK, "pcie_link_width": 8}, {}, (), "warn", "PCIe runs on 8 of 16 lanes"),
        ({**LINK, "gpu_utilization_ratio": 0.9}, {}, (), "warn", "PCIe runs as generation 1 of 5 under load"),
        ({**LINK, "gpu_utilization_ratio": 0.0}, {}, (), "ok", ""),
        ({}, {}, (48,), "crit", "XID 48: Double Bit ECC Error"),
        ({}, {}, (94,), "warn", "XID 94: Contained memory error"),
        ({}, {}, (13, 31, 43, 45), "ok", ""),
        ({}, {}, (31, 119), "crit", "XID 119: GSP RPC Timeout"),
        ({"clock_event_reasons": 32.0}, {}, (74,), "crit", "XID 74: NVLINK Error"),
        ({"remapped_rows_uncorrected_total": 1.0}, {}, (), "ok", "1 memory row replaced after uncorrected errors"),
        ({"power_draw_watts": 300.0}, {"fan_speed_ratio": "not_supported"}, (), "ok", ""),
    ],
)
def test_a_device_is_judged_by_its_gravest_finding(values, absent, recent, health, note):
    found = judge(values, absent, recent)

    assert (found.health, found.note) == (health, note)
    assert bool(found.advice) is bool(note)


def test_a_lost_device_is_lost_whatever_else_it_says():
    values = {"ecc_uncorrected_total": 3.0, "row_remap_failure": 1.0}

    assert judge(values, {"power_draw_watts": "gpu_is_lost"}, (48,)).note == "fell off the bus"


def test_heat_and_power_call_for_different_deeds():
    assert "cooling" in judge({"clock_event_reasons": 32.0}, {}).advice
    assert "power" in judge({"clock_event_reasons": 128.0}, {}).advice


def test_every_finding_of_the_catalogue_of_xids_names_what_to_do():
    for row in xid.XIDS:
        found = judge({}, {}, (row.code,))
        assert (found.health is Health.OK) is (row.severity == "info"), row
        assert row.name
        assert row.action.words


def test_the_catalogue_of_xids_holds_each_code_once():
    codes = [row.code for row in xid.XIDS]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "No Error"),
        (74, "NVLINK Error"),
        (79, "GPU has fallen off the bus"),
        (88, "NVDEC3 Error"),
        (105, "NVJPG7 Error"),
        (135, "CE19: Unknown Error"),
        (9999, "Unknown XID"),
    ],
)
def test_an_xid_has_its_name(code, name):
    assert xid.name(code) == name
