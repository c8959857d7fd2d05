"""Importing recorded step timings: CSV files → a run on a host of origin `imported`. Called by `manage.py import_steps`.

Everything is read and judged before anything is written. The same file again changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from telemetry.importers.rows import Faults, FileUnusable, cells_of, time_ms
from telemetry.importers.vocabulary import HOSTS, TIMES, ValueUnreadable
from telemetry.message.wire import HOST_NAME
from training.message.wire import MAX_STEP_SECONDS, MOST_RANKS
from training.models import Run
from training.runs import recorded_run
from training.runs.recorded_run import UNNUMBERED, Step
from training.steps.columns import INFINITE, StepKind

_PHASE = ("phase_", "_seconds")
_NUMBERS = ("seconds", "milliseconds", "compute_seconds", "samples", "tokens", "loss")
_WHOLE = ("step", "rank", "attempt", "is_warmup")
_KINDS = {"train": StepKind.TRAIN, "train_loss": StepKind.TRAIN, "training": StepKind.TRAIN, "validation": StepKind.VALIDATION,
          "val": StepKind.VALIDATION, "val_loss": StepKind.VALIDATION, "eval": StepKind.VALIDATION,
          "checkpoint": StepKind.CHECKPOINT, "other": StepKind.OTHER}  # fmt: skip
_ABSENT = {"", "n/a", "[n/a]", "nan", "none", "null"}


@dataclass(frozen=True, slots=True)
class Source:
    """A column: its place, what it holds, and whether it counts up over the whole run."""

    position: int
    target: str
    is_cumulative: bool = False


@dataclass(slots=True)
class Report:
    steps: int = 0
    new: int = 0
    run: Run | None = None
    ignored_columns: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)


@dataclass(slots=True)
class _Rank:
    """Where the reading of one rank's rows stands: its last cumulative values, and the time of its last step's end."""

    counted: dict[str, float] = field(default_factory=dict)
    ended_ms: float | None = None


def import_files(
    paths: Sequence[Path],
    run_name: str,
    *,
    hosts: Sequence[str] = (),
    columns: Sequence[str] = (),
    start: datetime | None = None,
) -> Report:
    """Import the files as one run; returns what was done. Raises FileUnusable, before anything is written.

    The steps are the first host's; on the others it ran too.
    """
    host = hosts[0] if hosts else ""
    report, host_name = Report(), host
    steps: list[Step] = []
    ranks: dict[int, _Rank] = {}
    for path in paths:
        rows = cells_of(path, report.faults)
        try:
            sources, host_at = _header(next(rows)[1], columns, report, has_start=start is not None)
        except StopIteration:
            raise FileUnusable(f"{path}: the file is empty") from None
        except ValueError as error:
            raise FileUnusable(f"{path}: {error}") from error
        before = len(steps)
        for line, cells in rows:
            if any(cell.strip() for cell in cells):
                named = (
                    cells[host_at].strip() if not host and host_at is not None and host_at < len(cells) else host_name
                )
                if named and (not HOST_NAME.fullmatch(named) or named != (host_name or named)):
                    why = (
                        f"host: {named!r} is no host's name"
                        if not host_name
                        else f"host: {named!r}, after {host_name!r}"
                    )
                    report.faults.add(
                        f"{path}, line {line}", f"{why}: a run has one host here; import each with its own --run"
                    )
                    continue
                host_name = named
                steps += _steps_of(f"{path}, line {line}", cells, sources, ranks, start, report)
        if len(steps) == before:
            shown = "; ".join(report.faults.shown[:3])
            raise FileUnusable(f"{path}: no row could be used{f' ({shown})' if shown else ''}; nothing was changed")
    report.steps = len(steps)
    report.run, report.new = recorded_run.keep(steps, run_name, [host_name or "imported", *hosts[1:]])
    return report


def _header(
    cells: Sequence[str], columns: Sequence[str], report: Report, *, has_start: bool
) -> tuple[list[Source], int | None]:
    """Return what the columns hold, and which of them names the host. Raises ValueError with what to do."""
    names = [cell.strip() for cell in cells]
    chosen = dict(map(_choice, columns))
    for header in chosen:
        if header not in names:
            raise ValueError(f"--column {header}=…: the file has no column {header!r}")
    sources = []
    for position, name in enumerate(names):
        target, is_cumulative = chosen.get(name, (name, False))
        if _is_target(target):
            sources.append(Source(position, target, is_cumulative))
        elif target not in HOSTS:
            report.ignored_columns.add(name)
    targets = {source.target for source in sources}
    if not targets & {"seconds", "milliseconds"}:
        raise ValueError(
            f"no column of durations: expected seconds (or --column HEADER=seconds), found {', '.join(names)}"
        )
    if not targets & set(TIMES) and not has_start:
        raise ValueError("no column of times (time_ms or timestamp): say when the run began with --start TIME")
    return sources, next((names.index(name) for name in HOSTS if name in names), None)


def _choice(pair: str) -> tuple[str, tuple[str, bool]]:
    header, separator, said = pair.rpartition("=")
    target, _, how = said.partition(":")
    if not separator or not header or not _is_target(target) or how not in {"", "cumulative"}:
        known = ", ".join((*TIMES, *_NUMBERS, *_WHOLE, "kind", "phase_<name>_seconds"))
        raise ValueError(f"--column {pair}: expected HEADER=NAME or HEADER=NAME:cumulative, with a NAME of {known}")
    return header, (target, bool(how))


def _is_target(name: str) -> bool:
    is_phase = name.startswith(_PHASE[0]) and name.endswith(_PHASE[1]) and len(name) > sum(map(len, _PHASE))
    return is_phase or name in {*TIMES, *_NUMBERS, *_WHOLE, "kind"}


def _steps_of(
    where: str, cells: Sequence[str], sources: Sequence[Source], ranks: dict[int, _Rank], start: datetime | None, report: Report
) -> Iterator[Step]:  # fmt: skip
    try:
        said = {source.target: cells[source.position].strip() for source in sources}
        rank = ranks.setdefault(_whole(said, "rank", 0, MOST_RANKS), _Rank())
        step = _step(said, sources, rank, start)
    except IndexError:
        report.faults.add(where, f"only {len(cells)} of its columns")
    except ValueUnreadable as error:
        report.faults.add(where, str(error))
    else:
        if step is not None:  # the first row of cumulative durations begins a step and ends none
            yield step


def _step(said: Mapping[str, str], sources: Sequence[Source], rank: _Rank, start: datetime | None) -> Step | None:
    """Return the row's step, None where it only begins the first one. Raises ValueUnreadable."""
    numbers = {
        source.target: _number(source, said[source.target], rank) for source in sources if _is_number(source.target)
    }
    seconds = numbers.pop("seconds", None)
    milliseconds = numbers.pop("milliseconds", None)
    seconds = seconds if milliseconds is None else milliseconds / 1000
    if seconds is None:
        if any(source.is_cumulative and source.target in {"seconds", "milliseconds"} for source in sources):
            return None
        raise ValueUnreadable("seconds: a step without a duration")
    if not 0 < seconds <= MAX_STEP_SECONDS:
        raise ValueUnreadable(f"seconds: {seconds:g}: expected more than 0 and at most {MAX_STEP_SECONDS:.0f}")
    loss = numbers.pop("loss", None)
    phases = {name[len(_PHASE[0]) : -len(_PHASE[1])]: value for name, value in numbers.items()
              if name.startswith(_PHASE[0]) and value is not None}  # fmt: skip
    return Step(
        rank=_whole(said, "rank", 0, MOST_RANKS),
        attempt=_whole(said, "attempt", 0, MOST_RANKS),
        number=_whole(said, "step", UNNUMBERED),
        kind=_kind(said.get("kind", "train")),
        is_warmup=_whole(said, "is_warmup", 0) > 0,
        ended_ms=_ended_ms(said, rank, seconds, start),
        seconds=seconds,
        compute_seconds=numbers.get("compute_seconds"),
        samples=numbers.get("samples"),
        tokens=numbers.get("tokens"),
        loss=loss,
        phases=phases,
    )


def _is_number(target: str) -> bool:
    return target in _NUMBERS or target.startswith(_PHASE[0])


def _number(source: Source, words: str, rank: _Rank) -> float | None:
    if words.lower() in _ABSENT:
        return None
    try:
        value = float(words)
    except ValueError:
        raise ValueUnreadable(f"{source.target}: {words!r} is no number") from None
    if source.target == "loss":
        return value if abs(value) < INFINITE else None  # of a step that diverged: it is a step all the same
    if not 0 <= value < INFINITE:
        raise ValueUnreadable(f"{source.target}: {words!r}: expected a number from 0 on")
    if not source.is_cumulative:
        return value
    before = rank.counted.get(source.target)
    rank.counted[source.target] = value
    if before is not None and value < before:
        raise ValueUnreadable(f"{source.target}: falls from {before:g} to {value:g}: the count began anew")
    return None if before is None else value - before


def _whole(said: Mapping[str, str], name: str, otherwise: int, limit: int = 2**31) -> int:
    words = said.get(name, "")
    if words.lower() in _ABSENT:
        return otherwise
    if not words.isdecimal() or len(words) > 10 or int(words) >= limit:
        raise ValueUnreadable(f"{name}: {words!r}: expected a whole number from 0 to {limit - 1}")
    return int(words)


def _kind(words: str) -> StepKind:
    kind = _KINDS.get(words.lower())
    if kind is None:
        raise ValueUnreadable(f"kind: {words!r}: expected train, validation, checkpoint or other")
    return kind


def _ended_ms(said: Mapping[str, str], rank: _Rank, seconds: float, start: datetime | None) -> int:
    name = next((name for name in TIMES if name in said), None)
    if name is not None:
        return time_ms(said[name], name, UTC)
    if start is None:
        raise ValueUnreadable("no time")
    began = start.timestamp() * 1000 if rank.ended_ms is None else rank.ended_ms
    rank.ended_ms = began + seconds * 1000
    return round(rank.ended_ms)
