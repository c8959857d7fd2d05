"""What travels about training: step timings, job orders, and job reports, as msgpack bytes with a version. No Django.

Orders go server → host (queue `host.<name>`), steps and reports host → server (queue `telemetry`). Each side checks what it
reads: a message that does not fit raises telemetry.wire.MessageInvalid and has no effect.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import msgpack

from telemetry.wire import HOST_NAME, MessageInvalid, integer, mapping, matching, number, read_message, text

VERSION = 1
START_TASK = "host.start_job"
CANCEL_TASK = "host.cancel_job"
STEPS_TASK = "training.ingest_steps"
REPORT_TASK = "training.ingest_report"
MAX_BYTES = 2_000_000
MAX_LOG_CHARACTERS = 200_000
_LAUNCH = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NAME = re.compile(r"[^\x00-\x1f]{1,200}")


@dataclass(frozen=True, slots=True)
class StepTiming:
    """One step of one rank; `seconds` from the loop's monotonic clock, `ended_ms` UTC."""

    run: str
    launch: str
    number: int
    ended_ms: int
    seconds: float
    rank: int = 0
    device_uuid: str = ""
    samples: float | None = None
    tokens: float | None = None
    loss: float | None = None
    is_warmup: bool = False


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Start `workload` with `params` (already validated by the server; the host validates again)."""

    job: int
    host: str
    workload: str
    params: dict[str, Any]
    device_uuid: str
    expires_ms: int
    time_limit_seconds: int


@dataclass(frozen=True, slots=True)
class JobReport:
    """What the agent says of a job. `sequence` grows within a job; the server applies only what is newer.

    `state` is one of starting, running, done, failed, cancelled, lost. `log` is the whole tail kept by the host (the last
    MAX_LOG_CHARACTERS), None where it has not changed. `result` comes once, with state done.
    """

    job: int
    host: str
    sequence: int
    state: str
    at_ms: int
    reason: str = ""
    stage: str = ""
    step: int = 0
    total_steps: int = 0
    log: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


REPORT_STATES = ("starting", "running", "done", "failed", "cancelled", "lost")


def pack(message: JobOrder | JobReport) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, **asdict(message)}))


def pack_steps(host: str, steps: Sequence[StepTiming]) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "host": host, "steps": [asdict(step) for step in steps]}))


def unpack_steps(payload: bytes) -> tuple[str, list[StepTiming]]:
    """Return (host name, steps)."""
    message = _versioned(payload)
    rows = message.get("steps")
    if not isinstance(rows, list) or len(rows) > 20_000:
        raise MessageInvalid("steps: expected a list of at most 20000")
    return matching(message, "host", HOST_NAME), [step_from(row) for row in rows]


def step_from(row: object) -> StepTiming:
    """Return the step of a frame that came over the local socket or inside a steps message."""
    if not isinstance(row, dict):
        raise MessageInvalid("step: expected a map")
    seconds = number(row.get("seconds"), "seconds")
    if seconds <= 0:
        raise MessageInvalid("seconds: expected more than 0")
    return StepTiming(
        run=matching(row, "run", _NAME),
        launch=matching(row, "launch", _LAUNCH),
        number=integer(row.get("number"), "number"),
        ended_ms=integer(row.get("ended_ms"), "ended_ms"),
        seconds=seconds,
        rank=integer(row.get("rank", 0), "rank"),
        device_uuid=text(row.get("device_uuid", ""), "device_uuid", 96),
        samples=_optional(row, "samples"),
        tokens=_optional(row, "tokens"),
        loss=_loss(row.get("loss")),
        is_warmup=bool(row.get("is_warmup", False)),
    )


def unpack_order(payload: bytes) -> JobOrder:
    message = _versioned(payload)
    return JobOrder(
        job=integer(message.get("job"), "job"),
        host=matching(message, "host", HOST_NAME),
        workload=text(message.get("workload"), "workload", 40),
        params=mapping(message, "params"),
        device_uuid=text(message.get("device_uuid"), "device_uuid", 96),
        expires_ms=integer(message.get("expires_ms"), "expires_ms"),
        time_limit_seconds=integer(message.get("time_limit_seconds"), "time_limit_seconds"),
    )


def pack_cancel(job: int, host: str) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "job": job, "host": host}))


def unpack_cancel(payload: bytes) -> tuple[int, str]:
    """Return (job, host)."""
    message = _versioned(payload)
    return integer(message.get("job"), "job"), matching(message, "host", HOST_NAME)


def unpack_report(payload: bytes) -> JobReport:
    message = _versioned(payload)
    state = message.get("state")
    if state not in REPORT_STATES:
        raise MessageInvalid(f"state: {state!r} is not one of {', '.join(REPORT_STATES)}")
    log = message.get("log")
    return JobReport(
        job=integer(message.get("job"), "job"),
        host=matching(message, "host", HOST_NAME),
        sequence=integer(message.get("sequence"), "sequence"),
        state=state,
        at_ms=integer(message.get("at_ms"), "at_ms"),
        reason=text(message.get("reason"), "reason", 4000),
        stage=text(message.get("stage"), "stage", 40),
        step=integer(message.get("step"), "step"),
        total_steps=integer(message.get("total_steps"), "total_steps"),
        log=None if log is None else text(log, "log", MAX_LOG_CHARACTERS),
        result=mapping(message, "result"),
    )


def _versioned(payload: bytes) -> dict[str, Any]:
    message = read_message(payload, MAX_BYTES)
    if message.get("v") != VERSION:
        raise MessageInvalid(f"v: this side reads version {VERSION}, the message has {message.get('v')!r}")
    return message


def _optional(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None else number(value, name)


def _loss(value: object) -> float | None:
    """Return the loss, None where it is unknown or no number any more: a diverged step is still a step."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
