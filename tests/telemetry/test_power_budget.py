"""The budget of power: whose power is summed, and who stands outside the sum."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import DeviceKind, Host
from telemetry.health import thresholds
from telemetry.health.fleet_rules import PowerSurvey
from telemetry.health.rule import Standing
from telemetry.health.seen import DeviceSeen, HostSeen
from tests.factories import CPU_READINGS, make_device, make_host, make_latest
from tests.telemetry.watched import WatchedHost, firing, rules_firing

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
POWER = "power_draw_watts"
GPU, CPU, NODE = DeviceKind.NVIDIA, DeviceKind.CPU, DeviceKind.NODE
LOAD = {"gpu_utilization_ratio": 0.4}
UNPERMITTED, HANGING = {POWER: "no_permission"}, {POWER: "timeout"}


def host_of(*devices, is_silent=False):
    """Return a host of devices, each as (kind, watts or None, absent reasons)."""
    host = HostSeen("host:a", Host(name="a"), NOW, 0, is_silent)
    for n, (kind, watts, absent) in enumerate(devices):
        values = LOAD if watts is None else LOAD | {POWER: watts}
        seen = DeviceSeen(
            f"device:{n}", n, f"{n}", kind, n, "model", host, 0, values, frozenset(absent.values()), True, True, (), None, absent
        )  # fmt: skip
        host.devices.append(seen)
        if kind == NODE:
            host.node = seen
    return host


def sign_of(*hosts, budget=1000.0):
    """Return how the fleet stands to its budget; None where it is clear."""
    survey = PowerSurvey({"watts": budget, "clear_ratio": 0.97}, NOW)
    for host in hosts:
        survey.see(host)
    return next((sign for _, sign in survey.signs()), None)


@pytest.mark.parametrize(
    ("devices", "watts"),
    [
        ([(GPU, 600.0, {}), (GPU, 500.0, {}), (CPU, 200.0, {})], 1100),
        ([(CPU, 200.0, {}), (CPU, 150.0, {})], 350),
        ([(GPU, 600.0, {}), (CPU, 200.0, {}), (NODE, 950.0, {})], 950),
        ([(GPU, 600.0, {}), (GPU, None, UNPERMITTED)], 600),
    ],
)
def test_the_sum_is_of_the_nodes_meter_else_its_accelerators_else_its_cpus(devices, watts):
    assert sign_of(host_of(*devices), budget=1.0).values[POWER] == watts


@pytest.mark.parametrize(
    "without",
    [[(CPU, None, {POWER: "not_supported"})], [(CPU, None, UNPERMITTED), (NODE, None, {})], [(GPU, None, {})]],
)
def test_a_host_that_offers_no_power_stands_outside_the_sum(without):
    assert sign_of(host_of((GPU, 600.0, {})), host_of(*without)) is None


@pytest.mark.parametrize(
    "unknown",
    [host_of((GPU, 1.0, {}), (GPU, None, HANGING)), host_of((NODE, None, HANGING)), host_of(is_silent=True)],
)
def test_power_that_is_not_known_now_leaves_the_sum_unknown(unknown):
    assert sign_of(host_of((GPU, 600.0, {})), unknown).standing is Standing.UNKNOWN


def test_the_evidence_says_whose_power_is_not_in_the_sum():
    outside, partly = host_of((CPU, None, UNPERMITTED)), host_of((GPU, 600.0, {}), (GPU, None, UNPERMITTED))
    found = sign_of(outside, outside, partly, host_of(is_silent=True), budget=500.0)

    assert found.values == {
        POWER: 600, "budget_watts": 500, "hosts_unknown": 1, "hosts_without_power": 2, "hosts_measured_in_part": 1,
    }  # fmt: skip


@pytest.mark.django_db
def test_the_alert_ends_in_a_fleet_with_a_host_that_has_no_power_meter():
    host = WatchedHost()
    without = make_host("login", seen_at=host.moment + timedelta(minutes=10))
    cpu = make_device(without, kind=CPU)
    make_latest(without, {cpu: CPU_READINGS}, {cpu: UNPERMITTED})
    thresholds.set_value("power_budget", "watts", 1000)
    thresholds.set_value("power_budget", "for_seconds", 0)
    host.run(20)
    assert firing()["power_budget", "fleet"].detail["values"]["hosts_without_power"] == 1
    thresholds.set_value("power_budget", "watts", 9000)
    host.run(80)

    assert "power_budget" not in rules_firing()
