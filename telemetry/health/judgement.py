"""What a device's newest readings and recent XIDs say of its health, and what to do. Pure; called by the queries.

The recovery actions are those of NVML_FI_DEV_GET_GPU_RECOVERY_ACTION.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

from fleet.models import Severity
from telemetry.catalog import AbsentReason
from telemetry.nvidia import xid
from telemetry.nvidia.clock_events import names


class Health(StrEnum):
    """In order of gravity; `silent` is apart: nothing is known."""

    OK = "ok"
    WARN = "warn"
    CRIT = "crit"
    SILENT = "silent"


GRAVITY = {Health.OK: 0, Health.SILENT: 1, Health.WARN: 2, Health.CRIT: 3}


class Finding(NamedTuple):
    """How it stands, in a few words, and what to do about it; both "" where all is well."""

    health: Health
    note: str
    advice: str = ""


HEAT, POWER_BRAKE = 0x20 | 0x40, 0x80
SLOWED = 0x8 | HEAT | POWER_BRAKE
_UNDER_LOAD = 0.5  # an idle link is slow on purpose

RESET = "drain the host, let go of the driver, reset the GPU (nvidia-smi --gpu-reset) and take the driver up again"
_RECOVERY_ACTIONS = {
    1: ("the driver asks for a reset", RESET),
    2: ("the driver asks for a reboot", "drain the host and reboot it"),
    3: ("the driver asks to drain peer-to-peer traffic", "end the jobs that use this GPU with others, then reset it"),
    4: ("the driver asks to drain and reset", RESET),
    5: ("the driver waits for IMEX", "check the IMEX service on the hosts of this NVLink domain"),
    6: ("the driver asks for a bus reset", "drain the host and reset the GPU's PCIe bus, or reboot the host"),
    7: ("the driver asks for a reboot", "drain the host and reboot it"),
}
ABSENT = {
    AbsentReason.GPU_IS_LOST: Finding(
        Health.CRIT, "fell off the bus", "drain the host and power-cycle it; if it comes back, have board and slot checked"
    ),
    AbsentReason.RESET_REQUIRED: Finding(Health.CRIT, "must be reset", RESET),
    AbsentReason.RELEASED: Finding(
        Health.WARN, "driver let go for a reset", "the agent takes it up again by itself when the time is over, or by the button"
    ),
    AbsentReason.TIMEOUT: Finding(
        Health.WARN, "a driver call does not return", "look for its process in state D; if it stays, drain the host and reboot it"
    ),
    AbsentReason.DRIVER_AWAY: Finding(
        Health.WARN,
        "the driver cannot be reached",
        "load it (modprobe nvidia) or reboot the host; the agent then finds it by itself",
    ),
}  # fmt: skip
_PASSING = (AbsentReason.RELEASED, AbsentReason.DRIVER_AWAY, AbsentReason.TIMEOUT)
# Of a device that gives no reading at all; where it gives some, one that is missing says nothing of its health.
UNREAD = {
    AbsentReason.NO_PERMISSION: Finding(
        Health.WARN, "the agent may not read it", "give the agent's user access to the device's files, then start the agent again"
    ),
    AbsentReason.UNKNOWN: Finding(
        Health.WARN, "the driver's answers are not understood",
        "see the driver's messages in the host's log; load the driver again or reboot the host",
    ),
}  # fmt: skip
# The agent's own count of what the driver reported, and who has the device: they outlive it, and are no readings of it.
OF_THE_AGENT = frozenset({"xid_last", "xid_errors_total", "allocation"})


def is_read(values: Collection[str]) -> bool:
    """Tell whether any of the values, by metric, was read from the device itself."""
    return not OF_THE_AGENT.issuperset(values)


def judge(values: Mapping[str, float], absent: Mapping[str, str], recent_xids: Collection[int] = ()) -> Finding:
    """Return the gravest finding; where there is none, OK with what is worth a note. `recent_xids` are the last hour's."""
    reasons = set(absent.values())
    for reason in (AbsentReason.GPU_IS_LOST, AbsentReason.RESET_REQUIRED):
        if reason in reasons:
            return ABSENT[reason]
    found = [_of_memory(values), of_recovery(values), *map(_of_xid, recent_xids)]
    found += [ABSENT[reason] for reason in _PASSING if reason in reasons]
    found += [] if is_read(values) else [UNREAD[reason] for reason in UNREAD if reason in reasons]
    found += [_of_clocks(values), _of_pcie(values)]
    known = [finding for finding in found if finding is not None]
    critical = next((finding for finding in known if finding.health is Health.CRIT), None)
    return critical or next((finding for finding in known if finding.health is Health.WARN), _all_well(values))


def _of_memory(values: Mapping[str, float]) -> Finding | None:
    if values.get("row_remap_failure"):
        return Finding(Health.CRIT, "a memory row could not be replaced", "drain the host and have the board replaced")
    if errors := values.get("ecc_uncorrected_total", 0):
        note = f"{errors:.0f} uncorrected memory {'error' if errors == 1 else 'errors'} since the driver was loaded"
        return Finding(Health.CRIT, note, RESET)
    if values.get("row_remap_pending"):
        return Finding(Health.WARN, "a memory row waits to be replaced", f"when convenient: {RESET}")
    return None


def of_recovery(values: Mapping[str, float]) -> Finding | None:
    action = int(values.get("recovery_action", 0))
    if not action:
        return None
    unknown = (f"the driver asks for recovery action {action}", "see the driver's own messages in the host's log")
    return Finding(Health.CRIT, *_RECOVERY_ACTIONS.get(action, unknown))


def _of_xid(code: int) -> Finding | None:
    """An application's own fault says nothing of the GPU's health."""
    row = xid.of_code(code)
    if row.severity == Severity.INFO:
        return None
    health = Health.CRIT if row.severity == Severity.CRITICAL else Health.WARN
    return Finding(health, f"XID {code}: {row.name}", row.action.words)


def _of_clocks(values: Mapping[str, float]) -> Finding | None:
    slowed = int(values.get("clock_event_reasons", 0)) & SLOWED
    if not slowed:
        return None
    advice = "check its cooling: fans, air flow, coolant" if slowed & HEAT else "check its power supply and cables"
    return Finding(Health.WARN, ", ".join(names(slowed)), advice)


def _of_pcie(values: Mapping[str, float]) -> Finding | None:
    """A link narrower than it could be; slower than it could be only under load, for an idle one is so on purpose."""
    advice = "reseat the board or its riser, and check the slot's setting in the BIOS"
    width, widest = values.get("pcie_link_width", 0), values.get("pcie_link_width_max", 0)
    if 0 < width < widest:
        return Finding(Health.WARN, f"PCIe runs on {width:.0f} of {widest:.0f} lanes", advice)
    generation, newest = values.get("pcie_link_generation", 0), values.get("pcie_link_generation_max", 0)
    if 0 < generation < newest and values.get("gpu_utilization_ratio", 0) >= _UNDER_LOAD:
        return Finding(Health.WARN, f"PCIe runs as generation {generation:.0f} of {newest:.0f} under load", advice)
    return None


def _all_well(values: Mapping[str, float]) -> Finding:
    """Replaced rows stay replaced for the board's life: worth a note, not a warning that nobody can end."""
    rows = int(values.get("remapped_rows_uncorrected_total", 0))
    if not rows:
        return Finding(Health.OK, "")
    note = f"{rows} memory row{'s' if rows > 1 else ''} replaced after uncorrected errors"
    return Finding(Health.OK, note, "nothing to do; have the board replaced where the number grows")
