"""Rules of a single device that speak of its driver, its memory and its XIDs. Data for rules.py; pure.

A reading that is missing makes a rule unknown, never clear.
"""

from collections.abc import Callable, Collection

from fleet.models import Severity
from telemetry.catalog import AbsentReason
from telemetry.health.judgement import ABSENT, RESET, UNREAD, Finding, of_recovery
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Sign, Threshold, raised
from telemetry.health.seen import DeviceSeen, XidSeen
from telemetry.nvidia import xid

_LOST, _TIMEOUT = AbsentReason.GPU_IS_LOST.value, AbsentReason.TIMEOUT.value
_RESET_REQUIRED, _AWAY = AbsentReason.RESET_REQUIRED.value, AbsentReason.DRIVER_AWAY.value
_HOUR, _WEEK = 3600, 7 * 86_400
_GRAVITY = list(Severity)


def _clear_if_read(device: DeviceSeen) -> Sign | None:
    return None if device.is_read else UNKNOWN


def _of_finding(finding: Finding) -> Sign:
    return raised(finding.note, advice=finding.advice)


def _lost(device: DeviceSeen, limits: Limits) -> Sign | None:
    if _LOST in device.reasons:
        return _of_finding(ABSENT[AbsentReason.GPU_IS_LOST])
    if device.is_named or not device.is_accelerator:
        return _clear_if_read(device)
    missing = (device.host.at_ms - device.at_ms) / 1000
    if missing < limits["missing_seconds"]:
        return BETWEEN
    proof = {"missing_seconds": round(missing), "last_named_ms": device.at_ms}
    return raised("its host reports, this device does not", proof)


def _must_be_reset(device: DeviceSeen, limits: Limits) -> Sign | None:
    if _RESET_REQUIRED in device.reasons:
        return _of_finding(ABSENT[AbsentReason.RESET_REQUIRED])
    finding = of_recovery(device.values)
    if finding is None:
        return _clear_if_read(device)
    return raised(finding.note, {"recovery_action": device.values["recovery_action"]}, finding.advice)


def _hanging(device: DeviceSeen, limits: Limits) -> Sign | None:
    return _of_finding(ABSENT[AbsentReason.TIMEOUT]) if _TIMEOUT in device.reasons else _clear_if_read(device)


def _unreachable(device: DeviceSeen, limits: Limits) -> Sign | None:
    """A driver that was let go on purpose is neither: the agent takes it up again by itself."""
    if _AWAY in device.reasons:
        return _of_finding(ABSENT[AbsentReason.DRIVER_AWAY])
    if device.is_read:
        return None
    return next((_of_finding(UNREAD[reason]) for reason in UNREAD if reason.value in device.reasons), UNKNOWN)


def _xids_of(is_of_class: Callable[[xid.Xid], bool]) -> Callable[[DeviceSeen, Limits], Sign | None]:
    """Return the function that looks for recent XIDs of a class; they are events, and pass while nothing else is heard."""

    def look(device: DeviceSeen, limits: Limits) -> Sign | None:
        if not device.xids:
            return None
        since = device.host.now.timestamp() - limits["recent_seconds"]
        found = [
            each for each in device.xids if each.last_at.timestamp() > since and is_of_class(xid.of_code(each.code))
        ]
        return _of_xids(found) if found else None

    return look


def _of_xids(found: Collection[XidSeen]) -> Sign:
    """Speak of the gravest, of equal ones of the newest."""
    chief = max(found, key=lambda each: (_GRAVITY.index(xid.of_code(each.code).severity), each.last_at))
    row = xid.of_code(chief.code)
    proof: dict[str, float | str | None] = {
        "xids": ", ".join(f"{each.code} × {each.times}" for each in sorted(found)),
        "last_xid_ms": int(chief.last_at.timestamp() * 1000),
    }
    return raised(f"XID {row.code}: {row.name}", proof, row.action.words, row.severity)


def _uncorrected(device: DeviceSeen, limits: Limits) -> Sign | None:
    errors = device.values.get("ecc_uncorrected_total")
    if errors is None:
        return UNKNOWN
    if errors < limits["errors"]:
        return None
    return raised(
        f"{errors:.0f} uncorrected memory {'error' if errors == 1 else 'errors'} since the driver was loaded",
        {"ecc_uncorrected_total": errors},
    )


def _flag(metric: str, text: str) -> Callable[[DeviceSeen, Limits], Sign | None]:
    def look(device: DeviceSeen, limits: Limits) -> Sign | None:
        value = device.values.get(metric)
        if value is None:
            return UNKNOWN
        rows = device.values.get("remapped_rows_uncorrected_total")
        return raised(text, {metric: value, "remapped_rows_uncorrected_total": rows}) if value else None

    return look


_XID_SPAN = Threshold("recent_seconds", "an XID is recent for", "seconds", _HOUR, 60, _WEEK)

RULES = (
    Rule(
        "device_lost", "Device lost", Severity.CRITICAL,
        "What the driver answers; whether the host still names the device",
        ABSENT[AbsentReason.GPU_IS_LOST].advice, _lost,
        own_thresholds=(Threshold("missing_seconds", "not named by its host for", "seconds", 300, 60, 86_400),),
    ),
    Rule(
        "device_reset", "Device must be reset", Severity.CRITICAL,
        "What the driver answers, and the recovery action that it names", RESET, _must_be_reset,
    ),
    Rule(
        "driver_hanging", "Driver call hangs", Severity.WARNING, "Whether the driver's calls return",
        ABSENT[AbsentReason.TIMEOUT].advice, _hanging, for_seconds=20,
    ),
    Rule(
        "driver_unreachable", "Driver not reached", Severity.WARNING, "Whether the driver gives readings that are understood",
        ABSENT[AbsentReason.DRIVER_AWAY].advice, _unreachable, for_seconds=20,
    ),
    Rule(
        "xid_hardware", "XID of the hardware", Severity.CRITICAL, "XIDs that NVIDIA's catalogue lays to device, link or driver",
        "see the XID's own action", _xids_of(lambda row: row.severity != Severity.INFO),
        own_thresholds=(_XID_SPAN,), clear_seconds=0,
    ),
    Rule(
        "xid_application", "XID of an application", Severity.INFO, "XIDs that NVIDIA's catalogue lays to a program",
        xid.Action.APPLICATION.words, _xids_of(lambda row: row.action is xid.Action.APPLICATION),
        own_thresholds=(_XID_SPAN,), clear_seconds=0,
    ),
    Rule(
        "ecc_uncorrected", "Uncorrected memory errors", Severity.CRITICAL, "Errors that ECC did not correct", RESET, _uncorrected,
        own_thresholds=(Threshold("errors", "errors since the driver was loaded", "errors", 1, 1, 1e6),),
    ),
    Rule(
        "row_remap_pending", "Row remap pending", Severity.WARNING, "Whether a memory row waits to be replaced",
        f"when convenient: {RESET}", _flag("row_remap_pending", "a memory row waits to be replaced"),
    ),
    Rule(
        "row_remap_failed", "Row remap failed", Severity.CRITICAL, "Whether a memory row could not be replaced",
        "drain the host and have the board replaced", _flag("row_remap_failure", "a memory row could not be replaced"),
    ),
)  # fmt: skip
