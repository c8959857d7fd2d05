"""Rules of a single device under load: heat, power, links, and whether it does what it was given for. Data for rules.py; pure."""

from fleet import units
from fleet.models import Severity
from telemetry.health import allocation
from telemetry.health.allocation import Allocated
from telemetry.health.judgement import HEAT, POWER_BRAKE
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Sign, Threshold, raised
from telemetry.health.seen import DeviceSeen
from telemetry.nvidia import clock_events

_POWER_CAP, _HARDWARE_SLOWDOWN = 0x4, 0x8
_CLOCK = ("sm_clock_hertz", "sm_clock_max_hertz", "clock_event_reasons")
_HEAT = ("temperature_celsius", *_CLOCK)
_POWER = ("power_draw_watts", "power_limit_watts", *_CLOCK)
_PCIE = (
    "pcie_link_width", "pcie_link_width_max", "pcie_link_generation", "pcie_link_generation_max", "gpu_utilization_ratio",
)  # fmt: skip


def _evidence(device: DeviceSeen, *names: str) -> dict[str, float | None]:
    return {name: device.values.get(name) for name in names}


def _hot(device: DeviceSeen, limits: Limits) -> Sign | None:
    reasons = device.values.get("clock_event_reasons")
    if reasons is None:
        return UNKNOWN
    found = int(reasons) & HEAT
    if not found:
        return None
    return raised(", ".join(clock_events.names(found)), _evidence(device, *_HEAT))


def _starved(device: DeviceSeen, limits: Limits) -> Sign | None:
    """A power cap that is reached is the rule under load; one that takes a great part of the clock is not."""
    values = device.values
    reasons = values.get("clock_event_reasons")
    if reasons is None:
        return UNKNOWN
    mask = int(reasons)
    if mask & POWER_BRAKE or mask & (_HARDWARE_SLOWDOWN | HEAT) == _HARDWARE_SLOWDOWN:
        return raised(
            ", ".join(clock_events.names(mask & (POWER_BRAKE | _HARDWARE_SLOWDOWN))), _evidence(device, *_POWER)
        )
    clock, fastest = values.get("sm_clock_hertz"), values.get("sm_clock_max_hertz")
    if not mask & _POWER_CAP or not clock or not fastest:
        return None
    share = clock / fastest
    if share < limits["clock_ratio"]:
        words = units.quantity(share, "ratio")
        return raised(
            f"the power cap holds the clock at {words} of its maximum",
            _evidence(device, *_POWER),
            "raise the power limit",
        )
    return BETWEEN if share < limits["clear_clock_ratio"] else None


def _hot_memory(device: DeviceSeen, limits: Limits) -> Sign | None:
    celsius = device.values.get("memory_temperature_celsius")
    if celsius is None:
        return UNKNOWN
    if celsius >= limits["celsius"]:
        return raised(f"memory at {units.quantity(celsius, 'celsius')}", {"memory_temperature_celsius": celsius})
    return BETWEEN if celsius > limits["clear_celsius"] else None


def _pcie(device: DeviceSeen, limits: Limits) -> Sign | None:
    """An idle link runs at a lower generation on purpose: then nothing can be told."""
    values = device.values
    width, widest = values.get("pcie_link_width", 0), values.get("pcie_link_width_max", 0)
    generation, newest = values.get("pcie_link_generation", 0), values.get("pcie_link_generation_max", 0)
    if not (width and widest and generation and newest):
        return UNKNOWN
    if width < widest:
        return raised(f"PCIe runs on {width:.0f} of {widest:.0f} lanes", _evidence(device, *_PCIE))
    if generation >= newest:
        return None
    if values.get("gpu_utilization_ratio", 0) < limits["load_ratio"]:
        return UNKNOWN
    return raised(f"PCIe runs as generation {generation:.0f} of {newest:.0f} under load", _evidence(device, *_PCIE))


def _nvlink(device: DeviceSeen, limits: Limits) -> Sign | None:
    grown = device.grown.get("nvlink_errors_total")
    if grown is None:
        return UNKNOWN
    if grown >= limits["errors_per_hour"]:
        return raised(f"{grown:.0f} NVLink errors in the last hour", {"errors_per_hour": grown})
    return BETWEEN if grown > limits["clear_errors_per_hour"] else None


def _allocated_idle(device: DeviceSeen, limits: Limits) -> Sign | None:
    if not device.is_accelerator:
        return None
    found = allocation.of_device(device)
    busy = device.values.get("gpu_utilization_ratio")
    if found.state is Allocated.FREE:
        return None
    if found.state is Allocated.UNKNOWN or busy is None:
        return UNKNOWN
    if busy < limits["load_ratio"]:
        watts = device.values.get("power_draw_watts")
        words = f"allocated ({found.source}), and {units.quantity(busy, 'ratio')} busy"
        return raised(words, {"gpu_utilization_ratio": busy, "power_draw_watts": watts, "allocated_by": found.source})
    return BETWEEN if busy < limits["clear_load_ratio"] else None


RULES = (
    Rule(
        "thermal_throttling", "Thermal throttling", Severity.WARNING,
        "Clock event reasons: software and hardware thermal slowdown",
        "check its cooling: fans, air flow, coolant", _hot, for_seconds=30, clear_seconds=180,
    ),
    Rule(
        "power_throttling", "Power throttling", Severity.WARNING,
        "Clock event reasons: power brake; a power cap that takes a great part of the clock",
        "check its power supply and cables", _starved,
        own_thresholds=(
            Threshold("clock_ratio", "clock under the power cap below", "ratio", 0.5, 0.05, 1),
            Threshold("clear_clock_ratio", "clear from", "ratio", 0.6, 0.05, 1),
        ),
        for_seconds=30, clear_seconds=180,
    ),
    Rule(
        "hot_memory", "Hot memory", Severity.WARNING, "Temperature of the memory",
        "check its cooling; compare with its peers, and have the board checked if it alone is hot", _hot_memory,
        own_thresholds=(
            Threshold("celsius", "memory from", "celsius", 95, 40, 130),
            Threshold("clear_celsius", "clear up to", "celsius", 90, 40, 130),
        ),
        for_seconds=60, clear_seconds=180,
    ),
    Rule(
        "pcie_degraded", "PCIe degraded", Severity.WARNING, "PCIe width; generation under load",
        "reseat the board or its riser, and check the slot's setting in the BIOS", _pcie,
        own_thresholds=(Threshold("load_ratio", "the generation counts from a utilisation of", "ratio", 0.5, 0, 1),),
        for_seconds=60, clear_seconds=180,
    ),
    Rule(
        "nvlink_degraded", "NVLink degraded", Severity.WARNING, "NVLink errors within an hour",
        "see which end counts them (nvidia-smi nvlink -e); reset the GPUs at both ends, then have the link checked", _nvlink,
        own_thresholds=(
            Threshold("errors_per_hour", "errors in an hour from", "errors", 10, 1, 1e9),
            Threshold("clear_errors_per_hour", "clear up to", "errors", 2, 0, 1e9),
        ),
    ),
    Rule(
        "allocated_idle", "Allocated but idle", Severity.WARNING, "Who has it allocated, and its utilisation",
        "ask its user; end the job or let others have it", _allocated_idle,
        own_thresholds=(
            Threshold("load_ratio", "utilisation below", "ratio", 0.05, 0.001, 1),
            Threshold("clear_load_ratio", "clear from", "ratio", 0.1, 0.001, 1),
        ),
        for_seconds=1800, clear_seconds=120,
    ),
)  # fmt: skip
