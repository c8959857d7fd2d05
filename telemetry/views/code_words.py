"""The words of readings that are no quantities: flags, codes, bit masks. Called by the device's page and the events'. Pure.

The recovery actions are those of NVML_FI_DEV_GET_GPU_RECOVERY_ACTION.
"""

from telemetry import catalog
from telemetry.nvidia import clock_events, xid

_RECOVERY = {
    0: "none", 1: "reset", 2: "reboot", 3: "drain peer-to-peer traffic", 4: "drain and reset",
    5: "IMEX", 6: "bus reset", 7: "reboot",
}  # fmt: skip
_ALLOCATION = {0: "free", 1: "a process", 2: "a Slurm job", 3: "a Kubernetes pod"}


def code_words(name: str, value: float) -> str:
    """Return what a metric's value says in words; "" where it is a quantity, or no metric of the catalogue."""
    match name:
        case "clock_event_reasons":
            return ", ".join(clock_events.names(int(value))) or "none"
        case "recovery_action":
            return _RECOVERY.get(int(value), f"code {value:.0f}")
        case "allocation":
            return _ALLOCATION.get(int(value), f"code {value:.0f}")
        case "xid_last":
            return f"{value:.0f} {xid.name(int(value))}" if value else "none"
    is_flag = name in catalog.BY_NAME and catalog.BY_NAME[name].unit == "flag"
    return ("yes" if value else "no") if is_flag else ""
