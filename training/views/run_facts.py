"""The facts under a run's title and the pills in it. Called by the run's view; asks nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fleet import units
from training.models import Run
from training.runs import queries
from training.runs.figures import RunFigures
from training.runs.members import Members
from training.views.run_tiles import money

_SILENT_SECONDS, _SILENT_STEPS = 30.0, 3.0  # an agent sends what it was told each few seconds


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    words: str
    note: str = ""
    title: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Pill:
    mark: str
    words: str


def pills(run: Run, who: Members, now: datetime, *, n_stragglers: int = 0) -> list[Pill]:
    found = [Pill("run", "running") if run.is_running(now) else Pill("stale", "ended")]
    if run.is_running(now) and run.last_step_at is not None:
        silent_seconds = (now - run.last_step_at).total_seconds()
        if silent_seconds > max(_SILENT_SECONDS, _SILENT_STEPS * who.step_seconds):
            found.append(Pill("warn", f"no step for {units.duration(silent_seconds)}"))
    if n_stragglers:
        found.append(Pill("warn", "straggler" if n_stragglers == 1 else f"{n_stragglers} stragglers"))
    return found


def facts(run: Run, who: Members, now: datetime, figures: RunFigures | None = None) -> list[Fact]:
    return [fact for fact in _facts(run, who, now, figures) if fact.words]


def _facts(run: Run, who: Members, now: datetime, figures: RunFigures | None) -> Iterator[Fact]:
    told = run.description if isinstance(run.description, dict) else {}
    yield Fact("Owner", run.owner or run.user, run.group, f"the processes' user is {run.user}" if run.user else "")
    yield Fact(
        "Hardware", _hardware(who), _hosts(who), ", ".join(dict.fromkeys(device.model for device in who.devices))
    )
    yield Fact("Ranks", units.count(who.n_ranks), _missing(run, who))
    yield Fact("Precision", _words(told, "dtype"), "compiled" if told.get("compiled") else "")
    yield Fact("Batch", _batch(told))
    yield Fact("Framework", _words(told, "framework"))
    yield Fact("Steps", units.count(who.n_steps), "warm-up apart")
    yield Fact("Launch", run.launch[:16], title=f"launch {run.launch}")
    if run.restarts:
        yield Fact("Restarts", units.count(run.restarts))
    began, ended = run.started_at, now if run.is_running(now) else run.last_step_at
    if ended is not None:
        yield Fact(
            "Duration", units.duration(max(0.0, (ended - began).total_seconds())), title=f"since {units.utc(began)}"
        )
    if figures is not None and figures.joules.value is not None:
        cost = figures.cost.value
        yield Fact(
            "Energy",
            str(units.quantity(figures.joules.value, "joules")),
            "" if cost is None else money(cost, figures.cost.unit),
            figures.joules.remark,
        )
    if who.n_lost:
        note = f"{units.count(who.n_dropped)} of them by the client" if who.n_dropped else "on the way to the agent"
        yield Fact("Datagrams lost", units.count(who.n_lost), note, "steps that were told and did not come", "warn")


def _hardware(who: Members) -> str:
    models = Counter(device.model or device.get_kind_display() for device in who.devices)
    return ", ".join(f"{n} × {queries.short_name(model)}" for model, n in models.items())


def _hosts(who: Members) -> str:
    return f"{len(who.hosts)} hosts" if len(who.hosts) > 1 else who.hosts[0].name if who.hosts else ""


def _missing(run: Run, who: Members) -> str:
    return f"of {run.world_size:,}" if run.world_size and run.world_size != who.n_ranks else ""


def _words(told: dict[str, object], name: str) -> str:
    """Return what the loop says, "" where that is no word: what it says is foreign."""
    found = told.get(name)
    return found if isinstance(found, str) else ""


def _batch(told: dict[str, object]) -> str:
    samples, tokens = told.get("samples_per_step"), told.get("tokens_per_sample")
    if not isinstance(samples, int | float):
        return ""
    words = units.number(samples)  # a rank of several that share a sample has a part of one
    return f"{words} × {units.count(tokens)} tokens" if isinstance(tokens, int | float) else f"{words} samples"
