"""What a device's newest readings say of its health. Pure; called by the queries, which know the time.

The clock event bits are NVML's (nvmlClocksEventReason… in nvml.h).
"""

from collections.abc import Mapping
from enum import StrEnum

from telemetry.catalog import AbsentReason


class Health(StrEnum):
    """In order of gravity; `silent` is apart: nothing is known."""

    OK = "ok"
    WARN = "warn"
    CRIT = "crit"
    SILENT = "silent"


CLOCK_EVENT_REASONS = {
    0x1: "GPU idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}
_SLOWED = 0x8 | 0x20 | 0x40 | 0x80


def clock_event_names(mask: int) -> list[str]:
    """Return the reasons in a bit mask by name; an unknown bit by its number."""
    bits = [1 << position for position in range(mask.bit_length()) if mask >> position & 1]
    return [CLOCK_EVENT_REASONS.get(bit, f"reason {bit:#x}") for bit in bits]


def judge(values: Mapping[str, float], absent: Mapping[str, str]) -> tuple[Health, str]:
    """Return the gravest finding and its words, (OK, "") where there is none."""
    reasons = set(absent.values())
    if AbsentReason.GPU_IS_LOST in reasons:
        return Health.CRIT, "fell off the bus"
    if AbsentReason.RESET_REQUIRED in reasons:
        return Health.CRIT, "must be reset"
    if values.get("ecc_uncorrected_total", 0) > 0:
        return (
            Health.CRIT,
            f"{values['ecc_uncorrected_total']:.0f} uncorrected memory errors since the driver was loaded",
        )
    slowed = int(values.get("clock_event_reasons", 0)) & _SLOWED
    if slowed:
        return Health.WARN, ", ".join(clock_event_names(slowed))
    if AbsentReason.TIMEOUT in reasons:
        return Health.WARN, "a driver call does not return"
    return Health.OK, ""
