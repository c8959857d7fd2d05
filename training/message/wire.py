"""What travels about training: step timings, job orders, and job reports, as msgpack bytes with a version. No Django.

Orders go server → host (queue `host.<name>`), steps and reports host → server (queue `telemetry`). Each side checks what it
reads: a message that does not fit raises telemetry.message.wire.MessageInvalid and has no effect.
"""

import re
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import msgpack

from telemetry.message.wire import (
    HOST_NAME,
    LATEST_MS,
    MessageInvalid,
    integer,
    mapping,
    matching,
    number,
    read_message,
    text,
)
from training.message import rank_order
from training.message.rank_order import RankOrder

VERSION = 1
VERSION_OF_RANKS = 2  # of an order to a rank: an agent that knows no ranks must not run it as a job of its own
START_TASK = "host.start_job"
CANCEL_TASK = "host.cancel_job"
STEPS_CARGO = "steps"  # the name under which steps go along with telemetry batches
STEPS_TASK = "training.ingest_steps"  # of agents of the release before
REPORT_TASK = "training.ingest_report"
MAX_BYTES = 2_000_000
MAX_LOG_CHARACTERS = 200_000
MAX_STEP_SECONDS = 1e7
MAX_RESULT_FIELDS = 100
_MAX_RESULT_CHARACTERS = 2_000
INT_32 = 2**31
MOST_RANKS = 2**20  # of a run, and of its starts: what counts them takes memory for each number below the greatest
REFERENCE_PREFIX = "reference-"
_JOB_LAUNCH = re.compile(r"[A-Za-z0-9]{1,32}")
LAUNCH = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
NAME = re.compile(r"[^\x00-\x1f]{1,200}")


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
    """Start `workload` with `params` (already validated by the server; the host validates again).

    `job` and `launch` together are the job's identity: numbers begin anew with a new server, launches never repeat. `ranks`
    is None for a job that runs alone. The host starts nothing by this order after `starts_by_ms`, UTC milliseconds by the
    server's clock (0: whenever it holds): what spoke for starting it is asked anew then, and another order sent.
    """

    job: int
    launch: str
    host: str
    workload: str
    params: dict[str, Any]
    device_uuid: str
    expires_ms: int
    time_limit_seconds: int
    ranks: RankOrder | None = None
    starts_by_ms: int = 0


@dataclass(frozen=True, slots=True)
class JobReport:
    """What the agent says of the job (`job`, `launch`). `sequence` grows within it; the server applies only what is newer.

    `state` is one of starting, running, done, failed, cancelled, lost. `log` is the whole tail kept by the host (the last
    MAX_LOG_CHARACTERS), None where it has not changed. `result` comes once, with state done. `meeting` is where the other ranks
    find rank 0, "ADDRESS PORT"; "" of any other job.
    """

    job: int
    launch: str
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
    meeting: str = ""


REPORT_STATES = ("starting", "running", "done", "failed", "cancelled", "lost")


def steps_launch(job: int, launch: str) -> str:
    """Return the launch id under which a reference job's own steps travel."""
    return f"{REFERENCE_PREFIX}{job}-{launch}"


def pack(message: JobOrder | JobReport) -> bytes:
    version = VERSION_OF_RANKS if isinstance(message, JobOrder) and message.ranks is not None else VERSION
    return bytes(msgpack.packb({"v": version, **asdict(message)}))


def unpack_steps(payload: bytes) -> tuple[str, list[StepTiming], list[str]]:
    """Return (host name, steps, why each of the others is none) of an agent's of the release before.

    A bad step takes no good one with it.
    """
    message = _versioned(payload)
    rows = message.get("steps")
    if not isinstance(rows, list) or len(rows) > 20_000:
        raise MessageInvalid("steps: expected a list of at most 20000")
    steps, refused = [], []
    for row in rows:
        try:
            steps.append(step_from(row))
        except MessageInvalid as error:
            refused.append(str(error))
    return matching(message, "host", HOST_NAME), steps, refused


def step_from(row: object) -> StepTiming:
    """Return the step of a frame that came over the local socket or inside a steps message."""
    if not isinstance(row, dict):
        raise MessageInvalid("step: expected a map")
    seconds = number(row.get("seconds"), "seconds")
    if not 0 < seconds <= MAX_STEP_SECONDS:
        raise MessageInvalid(f"seconds: expected more than 0 and at most {MAX_STEP_SECONDS:.0f}")
    return StepTiming(
        run=matching(row, "run", NAME),
        launch=matching(row, "launch", LAUNCH),
        number=integer(row.get("number"), "number"),
        ended_ms=below(LATEST_MS, row.get("ended_ms"), "ended_ms"),
        seconds=seconds,
        rank=below(MOST_RANKS, row.get("rank", 0), "rank"),
        device_uuid=text(row.get("device_uuid", ""), "device_uuid", 96),
        samples=_optional(row, "samples"),
        tokens=_optional(row, "tokens"),
        loss=_loss(row.get("loss")),
        is_warmup=bool(row.get("is_warmup", False)),
    )


def unpack_order(payload: bytes) -> JobOrder:
    message = _versioned(payload, VERSION, VERSION_OF_RANKS)
    return JobOrder(
        job=integer(message.get("job"), "job"),
        launch=matching(message, "launch", _JOB_LAUNCH),
        host=matching(message, "host", HOST_NAME),
        workload=text(message.get("workload"), "workload", 40),
        params=mapping(message, "params"),
        device_uuid=text(message.get("device_uuid"), "device_uuid", 96),
        expires_ms=below(LATEST_MS, message.get("expires_ms"), "expires_ms"),
        time_limit_seconds=below(INT_32, message.get("time_limit_seconds"), "time_limit_seconds"),
        ranks=rank_order.read(mapping(message, "ranks")) if message["v"] == VERSION_OF_RANKS else None,
        starts_by_ms=below(LATEST_MS, message.get("starts_by_ms", 0), "starts_by_ms"),  # a server of before names none
    )


def pack_cancel(job: int, launch: str, host: str) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "job": job, "launch": launch, "host": host}))


def unpack_cancel(payload: bytes) -> tuple[int, str, str]:
    """Return (job, launch, host)."""
    message = _versioned(payload)
    job, launch = integer(message.get("job"), "job"), matching(message, "launch", _JOB_LAUNCH)
    return job, launch, matching(message, "host", HOST_NAME)


def unpack_report(payload: bytes) -> JobReport:
    message = _versioned(payload)
    state = message.get("state")
    if state not in REPORT_STATES:
        raise MessageInvalid(f"state: {state!r} is not one of {', '.join(REPORT_STATES)}")
    log = message.get("log")
    return JobReport(
        job=integer(message.get("job"), "job"),
        launch=matching(message, "launch", _JOB_LAUNCH),
        host=matching(message, "host", HOST_NAME),
        sequence=integer(message.get("sequence"), "sequence"),
        state=state,
        at_ms=below(LATEST_MS, message.get("at_ms"), "at_ms"),
        reason=text(message.get("reason"), "reason", 4000),
        stage=text(message.get("stage"), "stage", 40),
        step=below(INT_32, message.get("step"), "step"),
        total_steps=below(INT_32, message.get("total_steps"), "total_steps"),
        log=None if log is None else text(log, "log", MAX_LOG_CHARACTERS),
        result=fields_of(message.get("result", {}), "result", depth=2),
        meeting=" ".join(map(str, rank_order.place(text(message["meeting"], "meeting", 80))))
        if message.get("meeting")
        else "",
    )


def fields_of(value: object, name: str, depth: int) -> dict[str, Any]:
    """Return a map of names to scalars, or to such maps while `depth` allows: what JSON can store and a page can show."""
    if not isinstance(value, dict) or len(value) > MAX_RESULT_FIELDS:
        raise MessageInvalid(f"{name}: expected a map of at most {MAX_RESULT_FIELDS} fields")
    return {
        text(key, name, 100): fields_of(each, name, depth - 1)
        if isinstance(each, dict) and depth > 1
        else _scalar(each, name)
        for key, each in value.items()
    }


def _scalar(value: object, name: str) -> str | int | float | None:
    if isinstance(value, float):
        return value if isfinite(value) else None  # PostgreSQL's JSON has no NaN
    return value if value is None or isinstance(value, int) else text(value, name, _MAX_RESULT_CHARACTERS)


def _versioned(payload: bytes, *known: int) -> dict[str, Any]:
    message = read_message(payload, MAX_BYTES)
    if message.get("v") not in (known or (VERSION,)):
        read = " and ".join(map(str, known or (VERSION,)))
        raise MessageInvalid(f"v: this side reads version {read}, the message has {message.get('v')!r}")
    return message


def below(limit: int, value: object, name: str) -> int:
    found = integer(value, name)
    if found >= limit:
        raise MessageInvalid(f"{name}: expected less than {limit}")
    return found


def _optional(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None else number(value, name)


def _loss(value: object) -> float | None:
    """Return the loss, None where it is unknown or no number any more: a diverged step is still a step."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
