"""The rules as data, their thresholds, and who has a device allocated."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet.models import DeviceKind, Host
from telemetry.health import allocation, rules, thresholds
from telemetry.health.allocation import Allocated
from telemetry.health.load_rules import RULES as LOAD_RULES
from telemetry.health.peer_rules import Spread
from telemetry.health.rule import Scope, Standing
from telemetry.health.seen import DeviceSeen, HostSeen

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def device(values=(), *, labels=None, processes=None, index=0):
    host = HostSeen("host:a", Host(name="a", labels=labels or {}), NOW, 0, is_silent=False)
    return DeviceSeen(
        "device:GPU-1", 1, "GPU-1", DeviceKind.NVIDIA, index, "H100", host, 0, dict(values), frozenset(),
        is_read=bool(values), is_named=True, xids=(), processes=processes,
    )  # fmt: skip


def standing(rule, **values):
    """Return how a GPU with these values stands to a rule of its load, by the rule's own thresholds."""
    found = next(each for each in LOAD_RULES if each.name == rule)
    limits = {name: threshold.value for name, threshold in found.thresholds.items()}
    sign = found.look(device(values), limits)
    return Standing.CLEAR if sign is None else sign.standing


def test_every_rule_says_what_it_looks_at_and_what_to_do():
    for name, rule in rules.by_name().items():
        assert name == rule.name
        assert rule.words
        assert rule.looks_at
        assert rule.advice


def test_every_threshold_lies_within_its_bounds_and_names_its_unit():
    for rule in rules.by_name().values():
        for threshold in rule.thresholds.values():
            assert threshold.value is None or threshold.low <= threshold.value <= threshold.high, (rule.name, threshold)
            assert threshold.unit


def test_another_app_adds_its_rule_and_two_cannot_have_one_name(monkeypatch):
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    added = replace(_as_new(rules.by_name()["host_silent"]), name="of_an_upper_app", scope=Scope.HOST)
    rules.register(added)

    assert rules.by_name()["of_an_upper_app"] is added
    with pytest.raises(ValueError, match="two health rules named of_an_upper_app"):
        rules.register(replace(_as_new(added), words="Another"))


def _as_new(rule):
    """Return the rule as it can be replaced: without what follows from the rest."""
    return type(rule)(
        **{name: getattr(rule, name) for name in rule.__dataclass_fields__ if rule.__dataclass_fields__[name].init}
    )


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("hot_memory", {"memory_temperature_celsius": 95}, "raised"),
        ("hot_memory", {"memory_temperature_celsius": 94}, "between"),
        ("hot_memory", {"memory_temperature_celsius": 91}, "between"),
        ("hot_memory", {"memory_temperature_celsius": 90}, "clear"),
        ("hot_memory", {"temperature_celsius": 99}, "unknown"),
        ("thermal_throttling", {"clock_event_reasons": 0x40}, "raised"),
        ("thermal_throttling", {"clock_event_reasons": 0x4}, "clear"),
        ("thermal_throttling", {}, "unknown"),
        ("power_throttling", {"clock_event_reasons": 0x80}, "raised"),
        ("power_throttling", {"clock_event_reasons": 0x8}, "raised"),
        ("power_throttling", {"clock_event_reasons": 0x48}, "clear"),  # the hardware slows it because of heat
        ("power_throttling", {"clock_event_reasons": 4, "sm_clock_hertz": 4e8, "sm_clock_max_hertz": 2e9}, "raised"),
        ("power_throttling", {"clock_event_reasons": 4, "sm_clock_hertz": 11e8, "sm_clock_max_hertz": 2e9}, "between"),
        ("power_throttling", {"clock_event_reasons": 4, "sm_clock_hertz": 18e8, "sm_clock_max_hertz": 2e9}, "clear"),
        ("power_throttling", {"clock_event_reasons": 0, "sm_clock_hertz": 4e8, "sm_clock_max_hertz": 2e9}, "clear"),
    ],
)
def test_a_rule_raises_at_one_point_and_clears_at_another(rule, values, expected):
    assert standing(rule, **values) is Standing(expected)


@pytest.mark.parametrize(
    ("width", "generation", "busy", "expected"),
    [
        (16, 5, 0.0, "clear"),
        (8, 5, 0.0, "raised"),
        (16, 3, 0.9, "raised"),
        (16, 3, 0.1, "unknown"),
        (0, 5, 0.9, "unknown"),
    ],
)
def test_a_slow_pcie_link_counts_under_load_and_a_narrow_one_always(width, generation, busy, expected):
    values = {
        "pcie_link_width": width, "pcie_link_width_max": 16, "pcie_link_generation": generation,
        "pcie_link_generation_max": 5, "gpu_utilization_ratio": busy,
    }  # fmt: skip

    assert standing("pcie_degraded", **values) is Standing(expected)


@pytest.mark.django_db
def test_a_threshold_that_was_set_is_in_force_until_it_is_reset():
    own = rules.by_name()["hot_memory"].thresholds["celsius"].value
    thresholds.set_value("hot_memory", "celsius", 100)
    assert thresholds.in_force()["hot_memory"]["celsius"] == 100
    thresholds.reset("hot_memory", "celsius")

    assert thresholds.in_force()["hot_memory"]["celsius"] == own


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rule", "name", "value", "words"),
    [
        ("hot_memory", "celsius", 131, "expected 40 to 130 celsius, found 131"),
        ("hot_memory", "celsius", float("nan"), "found nan"),
        ("hot_memory", "kelvin", 300, "has no threshold 'kelvin'"),
        ("hot_memory", "celsius:atlas", 99, "has no threshold 'celsius:atlas'"),
        ("power_budget", "watts:", 1000, "has no threshold 'watts:'"),
        ("no_rule", "celsius", 99, "no rule named 'no_rule'"),
    ],
)
def test_a_threshold_out_of_bounds_or_unknown_is_refused(rule, name, value, words):
    with pytest.raises(thresholds.ThresholdInvalid, match=words):
        thresholds.set_value(rule, name, value)


@pytest.mark.django_db
def test_a_rule_without_a_needed_threshold_is_off_until_it_is_set():
    assert "power_budget" not in thresholds.in_force()
    thresholds.set_value("power_budget", "watts:atlas", 9e4)

    assert thresholds.in_force()["power_budget"]["watts:atlas"] == 9e4


PYTHON = {"pid": 1, "command": "python", "slurm_job": "", "container": ""}


@pytest.mark.parametrize(
    ("values", "labels", "processes", "expected"),
    [
        ({}, {}, None, ("unknown", "")),
        ({}, {}, [], ("unknown", "")),
        ({"allocation": 0.0}, {}, None, ("free", "the agent")),
        ({"allocation": 0.0}, {"allocated": "yes"}, [PYTHON], ("free", "the agent")),
        ({"allocation": 1.0}, {}, [PYTHON], ("allocated", "processes")),
        ({"allocation": 2.0}, {"allocated": "no"}, [], ("allocated", "Slurm")),
        ({"allocation": 2.0}, {}, [PYTHON | {"slurm_job": "4411"}], ("allocated", "Slurm job 4411")),
        ({"allocation": 3.0}, {}, [], ("allocated", "Kubernetes")),
        ({"allocation": 9.0}, {}, [], ("unknown", "")),
        ({}, {}, [PYTHON], ("allocated", "processes")),
        ({}, {}, [PYTHON, PYTHON | {"container": "3f1c"}], ("allocated", "container 3f1c")),
        ({}, {}, [PYTHON | {"container": "3f1c"}, PYTHON | {"slurm_job": "4411"}], ("allocated", "Slurm job 4411")),
        ({}, {"allocated": "no"}, [PYTHON], ("allocated", "processes")),
        ({}, {"allocated": "yes"}, [], ("allocated", "label")),
        ({}, {"allocated": "no"}, None, ("free", "label")),
        ({}, {"allocated": "0:no, 1:yes"}, None, ("free", "label")),
        ({}, {"allocated": "1:yes"}, None, ("unknown", "")),
        ({}, {"allocated": "perhaps"}, None, ("unknown", "")),
    ],
)
def test_who_says_that_a_device_is_allocated_has_an_order(values, labels, processes, expected):
    state, source = allocation.of_device(device(values, labels=labels, processes=processes))

    assert (state, source) == (Allocated(expected[0]), expected[1])


def test_a_robust_distance_is_hardly_moved_by_the_one_that_is_far_off():
    spread = Spread.of([1980.0, 1965.0, 1980.0, 1995.0, 1980.0, 1965.0, 1995.0, 1200.0])

    assert spread.shortfall(1200.0) == pytest.approx(0.394, abs=0.001)
    assert spread.robust_z(1200.0) < -30
    assert abs(spread.robust_z(1965.0)) < 1


def test_peers_that_agree_exactly_do_not_make_a_small_difference_infinite():
    assert Spread.of([100.0] * 7 + [99.0]).robust_z(99.0) == pytest.approx(-1)
