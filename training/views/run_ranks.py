"""The ranks of a run as its page shows them: the strip, the verdict, the table. Called by the run's views; asks nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from django.urls import reverse

from fleet import units
from training.models import RunRank
from training.runs.members import Members
from training.runs.stragglers import WINDOW, Judgement
from training.runs.why_slow import NamedStraggler
from training.steps import grid
from training.steps.columns import StepColumns
from training.views.run_tiles import money

COLUMNS = ("seconds", "compute_seconds", "number", "attempt", "kind", "is_warmup")  # of the steps, that all this needs
CSV_COLUMNS = ("rank", "place", "step_seconds", "compute_seconds", "deviation", "is_straggler")
MOST_CELLS = 1024
_FULL_SCALE = 0.15  # a rank that much over the fastest one fills its cell
ROWS = 12
_JUDGED_STEPS = 2_000
_LEAST_CELL = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A rank: where it runs, its median step over the window, and of the steps of the verdict, the newest, its compute time.

    `deviation` is by how much that is over the median of the others.
    """

    rank: int
    where: str
    href: str
    step_seconds: float | None
    compute_seconds: float | None
    deviation: float | None
    is_straggler: bool
    why: str

    @property
    def mark(self) -> str:
        return "warn" if self.is_straggler else ""

    @property
    def deviation_words(self) -> str:
        return signed_percent(self.deviation)


@dataclass(frozen=True, slots=True)
class Cell:
    """A bar of the strip, `height` of 100; `state` is "", bad or unknown."""

    rank: int
    title: str
    href: str
    state: str
    height: int

    @property
    def top(self) -> int:
        return 100 - self.height


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the verdict."""

    label: str
    words: str
    mark: str = ""
    href: str = ""
    title: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ranks:
    """The panel; `why` says why no verdict stands. The table shows the slowest first, `n_more` stand in the CSV only."""

    subtitle: str
    cells: list[Cell]
    hosts: list[str]
    verdict: list[Said]
    rows: list[Row]
    has_compute: bool
    n_more: int
    why: str


def newest(steps: StepColumns) -> StepColumns:
    """Return the newest steps of the window: no verdict on a rank looks further back."""
    n_ranks = max(1, int(np.count_nonzero(np.bincount(steps.rank))))
    return steps.select(slice(-_JUDGED_STEPS * n_ranks, None))


def rows(steps: StepColumns, who: Members, judged: Judgement) -> list[Row]:
    """Return every rank that has a step here, by rank."""
    slow = {each.rank for each in judged.stragglers}
    found = []
    for rank, seconds in grid.median_by_rank(steps).items():
        member = who.of_rank(rank)
        found.append(
            Row(
                rank=rank,
                where=where(member),
                href=device_href(member),
                step_seconds=seconds,
                compute_seconds=judged.compute_seconds.get(rank),
                deviation=judged.levels.get(rank),
                is_straggler=rank in slow,
                why=judged.reason or "this rank does not tell its compute time",
            )
        )
    return found


def csv_rows(found: Sequence[Row], compute_seconds: Mapping[int, float]) -> Iterator[Sequence[object]]:
    """Yield the ranks as rows of CSV_COLUMNS, with medians over the window."""
    for row in found:
        compute = compute_seconds.get(row.rank)
        yield row.rank, row.where, row.step_seconds, compute, row.deviation, int(row.is_straggler)


def panel(found: Sequence[Row], judged: Judgement, said: list[Said]) -> Ranks:
    """Return the panel of the ranks; `said` is the verdict in words."""
    has_compute = any(row.compute_seconds is not None for row in found)
    by_value = sorted(found, key=lambda row: -(_value(row, has_compute=has_compute) or 0.0))
    hosts = list(dict.fromkeys(row.where.partition(" ")[0] for row in found if row.where))
    what = f"compute time of the newest {WINDOW} steps" if has_compute else "step time"
    is_strip = 1 < len(found) <= MOST_CELLS
    return Ranks(
        subtitle=f"{what} over the fastest rank, 0 to {units.quantity(_FULL_SCALE, 'ratio')}" if is_strip else "",
        cells=_cells(found, has_compute=has_compute) if is_strip else [],
        hosts=hosts if 1 < len(hosts) <= 8 and is_strip else [],
        verdict=said,
        rows=by_value[:ROWS],
        has_compute=has_compute,
        n_more=max(0, len(found) - ROWS),
        why="" if judged.stragglers else judged.reason or "No rank holds up the others.",
    )


def verdicts(found: Sequence[NamedStraggler]) -> list[Said]:
    """Return in words who holds up the others, by how much, since when, why, how many wait and what that costs."""
    return [said for each in found for said in _verdict(each)]


def _verdict(found: NamedStraggler) -> Iterator[Said]:
    straggler, device = found.straggler, found.device
    own, others = (units.quantity(x, "seconds") for x in (straggler.compute_seconds, straggler.others_seconds))
    each = straggler.wait_seconds / straggler.n_steps if straggler.n_steps else 0.0
    since = datetime.fromtimestamp(straggler.since_ms / 1000, UTC)
    yield Said(
        "Slowest",
        f"rank {straggler.rank}, {found.place}",
        "warn",
        reverse("device", args=[device.uuid]) if device else "",
    )
    yield Said("Compute time", f"{own}, others {others} ({signed_percent(straggler.excess)})")
    yield Said("Since", "the first step seen" if straggler.is_from_the_first else "", at=since)
    yield Said("Likeliest cause", found.causes.words)
    if found.causes.likeliest is not None:
        yield Said("Seen", found.causes.likeliest.evidence)
    yield Said("Waiting on it", f"{found.n_gpus} GPUs × {units.quantity(each, 'seconds')} per step")
    yield Said("GPU time lost", units.duration(found.gpu_seconds), title=found.words)
    if found.joules.value is not None:
        cost = "" if found.cost.value is None else f", {money(found.cost.value, found.cost.unit)}"
        yield Said(
            "Drawn while waiting", f"{units.quantity(found.joules.value, 'joules')}{cost}", title=found.joules.remark
        )


def where(member: RunRank | None) -> str:
    """Return "gpu-a03 GPU 5"; "" where neither host nor device is known."""
    if member is None:
        return ""
    parts = [member.host.name if member.host else "", member.device.title if member.device else ""]
    return " ".join(part for part in parts if part)


def device_href(member: RunRank | None) -> str:
    if member is None or (member.device is None and member.host is None):
        return ""
    if member.device is not None:
        return reverse("device", args=[member.device.uuid])
    return reverse("host", args=[member.host.name]) if member.host else ""


def signed_percent(ratio: float | None) -> str:
    """Return "+12.0 %", "±0.0 %" or "−3.2 %"; "—" for None."""
    if ratio is None:
        return units.UNKNOWN
    sign = "±" if abs(ratio) < 0.0005 else "+" if ratio > 0 else "\N{MINUS SIGN}"
    return f"{sign}{abs(ratio) * 100:.1f}\N{NARROW NO-BREAK SPACE}%"


def _cells(found: Sequence[Row], *, has_compute: bool) -> list[Cell]:
    values = [value for row in found if (value := _value(row, has_compute=has_compute)) is not None]
    fastest = min(values, default=0.0)
    return [_cell(row, _value(row, has_compute=has_compute), fastest) for row in found]


def _cell(row: Row, value: float | None, fastest: float) -> Cell:
    place = f", {row.where}" if row.where else ""
    if value is None or fastest <= 0:
        return Cell(row.rank, f"rank {row.rank}{place}: {row.why}", row.href, "unknown", 0)
    height = round(min(1.0, (value / fastest - 1) / _FULL_SCALE) * 100)
    title = f"rank {row.rank}{place}: {units.quantity(value, 'seconds')} ({row.deviation_words})"
    return Cell(row.rank, title, row.href, "bad" if row.is_straggler else "", max(_LEAST_CELL, height))


def _value(row: Row, *, has_compute: bool) -> float | None:
    return row.compute_seconds if has_compute else row.step_seconds
