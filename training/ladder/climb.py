"""From the processes of a ladder to its result: k of each rung over the first, steady and with compilation. Pure; no Django."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from training.ladder.speedup import Speedup, speedup, steps_to_pay, with_compilation

LOSS_TOLERANCE = 0.02  # of the first loss: what a rung may change of the loss that is reached
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Process:
    """What one fresh process measured: its median step and first step, seconds, and over how many steps; losses where told.

    `markers` say why it is contaminated, `failure` why it has no result: either leaves it out.
    """

    block: int
    rung: int
    job: int
    step_seconds: float | None = None
    first_step_seconds: float | None = None
    steps: int = 0
    loss_start: float | None = None
    loss_end: float | None = None
    markers: Sequence[str] = ()
    failure: str = ""

    @property
    def is_usable(self) -> bool:
        return self.step_seconds is not None and not self.markers and not self.failure

    @property
    def compile_seconds(self) -> float | None:
        """Return what the first step took beyond a usual one: compiling, and choosing kernels; None where none was told."""
        if self.step_seconds is None or self.first_step_seconds is None:
            return None
        return max(0.0, self.first_step_seconds - self.step_seconds)


@dataclass(frozen=True, slots=True)
class Climbed:
    """One rung's result. `steady` and `with_compilation` are k over the first rung; `steps_to_pay` beside the rung before.

    `why_not` says why it is not offered; `left_out` names the processes that did not count, with the reason.
    """

    name: str
    why_not: str = ""
    steady: Speedup | None = None
    with_compilation: Speedup | None = None
    over_steps: int = 0
    step_seconds: float | None = None
    compile_seconds: float | None = None
    steps_to_pay: int | None = None
    loss_change: float | None = None
    changes_loss: bool = False
    left_out: Sequence[str] = field(default=())


def climb(
    names: Sequence[str], not_offered: Mapping[int, str], processes: Sequence[Process], n_blocks: int
) -> list[Climbed]:
    """Return the result of each rung, bottom first; with processes still to come it is the result so far."""
    found: list[Climbed] = []
    below: Climbed | None = None
    base = _Times.of(0, processes, n_blocks)
    for rung, name in enumerate(names):
        if rung in not_offered:
            found.append(Climbed(name, why_not=not_offered[rung]))
            continue
        result = _rung(name, base, _Times.of(rung, processes, n_blocks), below)
        found.append(result)
        below = result if result.step_seconds is not None else below
    return found


@dataclass(frozen=True, slots=True)
class _Times:
    """The usable processes of a rung, and their times by block, NaN where there is none."""

    usable: list[Process]
    steady: list[float]
    whole: list[float]
    left_out: list[str]

    @classmethod
    def of(cls, rung: int, processes: Sequence[Process], n_blocks: int) -> "_Times":
        mine = [process for process in processes if process.rung == rung]
        usable = {process.block: process for process in mine if process.is_usable}
        steady = [_step(usable.get(block)) for block in range(n_blocks)]
        whole = [_whole(usable.get(block)) for block in range(n_blocks)]
        left_out = [f"job {p.job}: {p.failure or '; '.join(p.markers)}" for p in mine if p.failure or p.markers]
        return cls(list(usable.values()), steady, whole, left_out)


def _step(process: Process | None) -> float:
    return _NAN if process is None or process.step_seconds is None else process.step_seconds


def _whole(process: Process | None) -> float:
    if process is None or process.step_seconds is None or process.compile_seconds is None or not process.steps:
        return _NAN
    return with_compilation(process.step_seconds, process.compile_seconds, process.steps)


def _rung(name: str, base: _Times, times: _Times, below: Climbed | None) -> Climbed:
    if not times.usable:
        return Climbed(name, left_out=tuple(times.left_out))
    seconds = median(_step(process) for process in times.usable)
    told = [process.compile_seconds for process in times.usable if process.compile_seconds is not None]
    compiling = median(told) if told else None
    change = _loss_change(base.usable, times.usable)
    pays = _steps_to_pay(below, seconds, compiling)
    return Climbed(
        name,
        steady=speedup(base.steady, times.steady),
        with_compilation=speedup(base.whole, times.whole),
        over_steps=times.usable[0].steps,
        step_seconds=seconds,
        compile_seconds=compiling,
        steps_to_pay=pays,
        loss_change=change,
        changes_loss=change is not None and abs(change) > LOSS_TOLERANCE,
        left_out=tuple(times.left_out),
    )


def _steps_to_pay(below: Climbed | None, seconds: float, compiling: float | None) -> int | None:
    if below is None or below.step_seconds is None or below.compile_seconds is None or compiling is None:
        return None
    return steps_to_pay(below.step_seconds, seconds, max(0.0, compiling - below.compile_seconds))


def _loss_change(base: Sequence[Process], rung: Sequence[Process]) -> float | None:
    """Return by how much of the first loss the loss that is reached differs from the first rung's; None where it is not told."""
    first = [process.loss_start for process in base if process.loss_start]
    ends = [[process.loss_end for process in each if process.loss_end is not None] for each in (base, rung)]
    if not first or not all(ends):
        return None
    return (median(ends[1]) - median(ends[0])) / abs(median(first))
