"""How far a reference job is: its headline, stages, share and time left. Called by the job page and the tables; asks nothing.

Stage names are those of the harness (training/reference/harness.py). Before them stand the claim, which is the host's, and its
check of order, device and interpreter; after them the comparison, which is the server's.
"""

from dataclasses import dataclass
from statistics import median

from training.jobs.queries import JobSteps
from training.models import ACTIVE_STATES, JobState, ReferenceJob

STAGES = ("claim", "check", "build", "warm up", "measure", "finish")
_MEASURE = "measure"  # of a job with repeats "measure 2 of 3"
_STAGES_OF_RANKS = ("claim", "check", "join", "build", "warm up", "measure", "finish")
_HEADLINES = {
    "join": "Meeting the other ranks",
    "build": "Building the model",
    "warm up": "Warming up",
    _MEASURE: "Measuring",
    "finish": "Writing the result",
}
MARKS: dict[JobState, str] = {
    JobState.QUEUED: "idle",
    JobState.STARTING: "run",
    JobState.RUNNING: "run",
    JobState.DONE: "ok",
    JobState.FAILED: "crit",
    JobState.CANCELLED: "stale",
    JobState.LOST: "warn",
}
_LATEST_STEPS = 20  # the time left follows the pace of now


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the named stages; `progress` is done, now, stopped (the job ended in it) or ahead."""

    label: str
    progress: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`percent` is None before the first step is known, `seconds_left` before there is a pace."""

    mark: str
    headline: str
    reason: str
    step: int
    total_steps: int
    percent: int | None
    seconds_left: float | None
    stages: list[Stage]


def mark(job: ReferenceJob) -> str:
    """Return the shape and colour of a job's state (the `ui` tags' names)."""
    return MARKS[JobState(job.state)]


def percent(step: int, total_steps: int) -> int | None:
    return min(100, step * 100 // total_steps) if total_steps else None


def progress(job: ReferenceJob, steps: JobSteps, compared: str = "") -> Progress:
    """Return how far the job is, by its newest report and by the steps that have arrived, whichever is further.

    `compared` is the outcome of the comparison with earlier runs, "" while there is none.
    """
    step = max(job.step, steps.number[-1] if steps.number else 0)
    total = job.total_steps or job.params.get("warmup_steps", 0) + _n_repeats(job) * job.params.get("steps", 0)
    return Progress(
        mark=mark(job),
        headline=headline(job),
        reason=_reason(job),
        step=step,
        total_steps=total,
        percent=percent(step, total) if step else None,
        seconds_left=_seconds_left(job, steps, total - step),
        stages=_stages(job, compared),
    )


def headline(job: ReferenceJob) -> str:
    """Return what the job is doing, or how it ended."""
    if job.is_final:
        return job.get_state_display().capitalize()
    if job.cancel_requested_at:
        return f"Cancelling on {job.host.name}"
    match job.state:
        case JobState.QUEUED:
            return f"Queued for {job.host.name}"
        case JobState.STARTING:
            return f"{job.host.name} checks order and device"
    if repeat := _repeat(job):
        return f"{_HEADLINES[_MEASURE]}, repeat {repeat}"
    return _HEADLINES.get(job.stage, "Running")


def _repeat(job: ReferenceJob) -> str:
    """Return which repeat is measured, as "2 of 3"; "" in other stages and where there is one alone."""
    name, _, repeat = job.stage.partition(" ")
    return repeat if name == _MEASURE else ""


def _n_repeats(job: ReferenceJob) -> int:
    found: int = job.params.get("repeats", 1)
    return found


def _reason(job: ReferenceJob) -> str:
    if job.reason or job.state != JobState.QUEUED:
        return job.reason
    if not job.can_be_sent:
        return f"{job.host.name} gets its order when rank 0 has said where the ranks meet."
    return f"The order is on its way: {job.host.name} has not taken it yet."


def _seconds_left(job: ReferenceJob, steps: JobSteps, steps_left: int) -> float | None:
    """Return the steps that are left times the median of the latest; the measured ones where there are any."""
    if job.state not in ACTIVE_STATES or not steps.seconds:
        return None
    measured = [seconds for seconds, warm in zip(steps.seconds, steps.is_warmup, strict=True) if not warm]
    return steps_left * median((measured or steps.seconds)[-_LATEST_STEPS:])


def _stages(job: ReferenceJob, compared: str) -> list[Stage]:
    compare = f"Compare: {compared}" if compared else "Compare"
    join = ["Join"] if job.team_id is not None else []
    labels = [
        "Claim host",
        "Check",
        *join,
        "Build",
        _counted("Warm up", job.params.get("warmup_steps")),
        _measured(job),
        compare,
    ]
    at = _stage_index(job)
    if job.state == JobState.DONE:
        at = len(labels) if compared or job.rank > 0 else len(labels) - 1
    here = "stopped" if job.is_final and job.state != JobState.DONE else "now"
    return [Stage(label, "done" if i < at else here if i == at else "ahead") for i, label in enumerate(labels)]


def _stage_index(job: ReferenceJob) -> int:
    stages = STAGES if job.team_id is None else _STAGES_OF_RANKS
    stage = _MEASURE if _repeat(job) else job.stage
    if stage in stages:
        return stages.index(stage)
    return 0 if job.started_at is None and job.state != JobState.STARTING else 1


def _measured(job: ReferenceJob) -> str:
    n_steps, n_repeats = job.params.get("steps"), _n_repeats(job)
    if n_repeats > 1 and n_steps is not None:
        repeat = _repeat(job)
        return _counted(f"Measure {repeat}" if repeat else f"Measure {n_repeats} times", n_steps)
    return _counted("Measure", n_steps)


def _counted(label: str, n_steps: int | None) -> str:
    if n_steps is None:
        return label
    return f"{label}, {n_steps:,} step{'' if n_steps == 1 else 's'}"
