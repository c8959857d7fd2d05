"""What the pages say of a schedule: where it runs, when next, and what came of it last. Called by views/schedules.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from telemetry.health import thresholds
from training.jobs.cron import CronInvalid, due_at
from training.jobs.occasions import RULE_OF_SILENCE
from training.models import JobState, Schedule, ScheduledVisit
from training.views.progress import MARKS

_LEFT_OUT, _WAITING = "left out", "waiting"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the newest moment at which it was due: (mark, words, how many), and the first reason there is."""

    due_at: datetime
    why: str
    counts: list[tuple[str, str, int]]
    reason: str


def outcome(visits: Iterable[ScheduledVisit]) -> Outcome | None:
    """Return None where it never was due; the visits come newest first."""
    found = list(visits)
    newest = [visit for visit in found if visit.due_at == found[0].due_at]
    if not newest:
        return None
    counts: dict[tuple[str, str], int] = {}
    for visit in newest:
        counts[_state(visit)] = counts.get(_state(visit), 0) + 1
    reasons = [visit.outcome for visit in newest if visit.outcome]
    counted = [(mark, words, n) for (mark, words), n in counts.items()]
    return Outcome(newest[0].due_at, newest[0].why, counted, reasons[0] if reasons else "")


def _state(visit: ScheduledVisit) -> tuple[str, str]:
    if visit.job is not None:
        state = JobState(visit.job.state)
        return MARKS[state], state.label
    return ("idle", _WAITING) if visit.ended_at is None else ("stale", _LEFT_OUT)


def where(schedule: Schedule) -> str:
    """Return which hosts it means, in words."""
    chosen = schedule.selection
    parts = [f"cluster {chosen['cluster']}"] if chosen.get("cluster") else []
    parts += [chosen["model"]] if chosen.get("model") else []
    parts += [f"{name}={value}" for name, value in chosen.get("labels", {}).items()]
    if schedule.as_one:
        return ", ".join([*parts, "one job over all"])
    return ", ".join(parts) + (", each device" if chosen.get("per") == "device" else "")


def next_at(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when it is due next, None where no time says so."""
    try:
        return due_at(schedule.cron, now) if schedule.cron and schedule.is_active else None
    except CronInvalid:
        return None


def watches_silence() -> bool:
    """Tell whether the rule is on by whose alerts it is known that a host came back."""
    return RULE_OF_SILENCE in thresholds.in_force()
