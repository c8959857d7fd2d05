"""Steps as columns: what the step store reads, and what figures, verdicts and charts calculate with. numpy only, no Django.

A column is `(n_steps,)`; all of one `StepColumns` belong together, sorted by (ended_ms, rank).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

INFINITE = 1e300  # a number of so much is as good as infinite, and the sum of some is
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_] | NDArray[np.int64] | slice  # True where kept, or the places of those kept, in order


class StepKind(IntEnum):
    """What the loop did in that time. OTHER is told by its phase's name."""

    TRAIN = 0
    VALIDATION = 1
    CHECKPOINT = 2
    OTHER = 3


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Steps of one run; NaN is "not told", and so is a column that the reader did not ask for.

    `ended_ms` is UTC in milliseconds, with fractions; `seconds` and `phases` were taken on the loop's own monotonic clock.
    `compute_seconds` is what passed before communication began to wait for other ranks. `samples` and `tokens` are the
    rank's own. `attempt` counts the starts of the run, from 0: a resumed one repeats numbers.
    """

    rank: NDArray[np.int32]
    number: NDArray[np.int64]
    ended_ms: Floats
    seconds: Floats
    compute_seconds: Floats
    samples: Floats
    tokens: Floats
    loss: Floats
    is_warmup: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    attempt: NDArray[np.int32]
    phases: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ended_ms.size

    @property
    def began_ms(self) -> Floats:
        return self.ended_ms - self.seconds * 1000

    def select(self, mask: Mask) -> Self:
        """Return the steps where `mask` is True, or those at its places."""
        columns = {name: getattr(self, name)[mask] for name in NAMES}
        return type(self)(**columns, phases={name: values[mask] for name, values in self.phases.items()})

    def between(self, start_ms: float, end_ms: float) -> Self:
        """Return the steps that ended from `start_ms` on and before `end_ms`."""
        first, last = np.searchsorted(self.ended_ms, [start_ms, end_ms])
        return self.select(slice(int(first), int(last)))

    def of_rank(self, rank: int) -> Self:
        return self.select(self.rank == rank)

    def of_kind(self, kind: StepKind) -> Self:
        return self.select(self.kind == kind)


DTYPES: Mapping[str, Any] = {
    "rank": np.int32, "number": np.int64, "ended_ms": np.float64, "seconds": np.float64, "compute_seconds": np.float64,
    "samples": np.float64, "tokens": np.float64, "loss": np.float64, "is_warmup": np.bool_, "kind": np.uint8,
    "attempt": np.int32,
}  # fmt: skip
NAMES = tuple(each.name for each in fields(StepColumns) if each.name != "phases")
MAY_LACK = ("compute_seconds", "samples", "tokens", "loss")  # NaN where not told


def of_arrays(columns: Mapping[str, Any], phases: Mapping[str, Any] | None = None) -> StepColumns:
    """Return the steps of these columns, sorted. All but `ended_ms` may be left out.

    What is left out is as if not told: rank, number, kind and attempt 0, no warm-up, and NaN for the rest.
    """
    n_steps = len(columns["ended_ms"])
    full = {
        name: np.asarray(columns[name], dtype) if name in columns else _untold(name, n_steps)
        for name, dtype in DTYPES.items()
    }
    told = {name: np.asarray(values, np.float64) for name, values in (phases or {}).items()}
    return in_order(StepColumns(**full, phases=told))


def empty() -> StepColumns:
    return of_arrays({"ended_ms": [], "seconds": []})


def joined(parts: Sequence[StepColumns]) -> StepColumns:
    """Return the steps of all parts, sorted; a phase that a part does not tell is NaN there."""
    if not parts:
        return empty()
    if len(parts) == 1:
        return parts[0]
    columns = {name: _joined([getattr(part, name) for part in parts]) for name in NAMES}
    names = dict.fromkeys(name for part in parts for name in part.phases)
    phases = {
        name: np.concatenate([part.phases.get(name, np.full(len(part), np.nan)) for part in parts]) for name in names
    }
    return in_order(StepColumns(**columns, phases=phases))


def _joined(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the columns one after another; where all are one value that nobody wrote out, so is this."""
    values = {column[:1].tobytes() for column in columns if column.strides == (0,)}
    if len(values) == 1 and all(column.strides == (0,) for column in columns):
        return np.broadcast_to(columns[0][:1], sum(column.size for column in columns))
    return np.concatenate(columns)


def told_sum(values: Floats) -> float | None:
    """Return the sum of what is told, None where nothing is."""
    told = values[~np.isnan(values)]
    return float(told.sum()) if told.size else None


def in_order(steps: StepColumns) -> StepColumns:
    """Return the steps sorted by (ended_ms, rank), then kind, attempt and number: one order, whatever came first."""
    ended = steps.ended_ms
    is_ascending = bool((ended[1:] >= ended[:-1]).all())
    # Stable: it finds the sorted runs of which the parts consist.
    order = np.arange(ended.size) if is_ascending else np.argsort(ended, kind="stable")
    ordered = ended if is_ascending else ended[order]
    is_tied = ordered[1:] == ordered[:-1]
    if is_tied.any():
        among = np.zeros(ended.size, np.bool_)
        among[1:] = is_tied
        among[:-1] |= is_tied
        tied = order[among]
        keys = (steps.number, steps.attempt, steps.kind, steps.rank, ended)
        by_keys = tied[np.lexsort([key[tied] for key in keys])]
        is_ascending &= bool((by_keys == tied).all())
        order[among] = by_keys
    return steps if is_ascending else steps.select(order)


def _untold(name: str, n_steps: int) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[name])
    return np.broadcast_to(np.asarray(np.nan if dtype.kind == "f" else 0, dtype), n_steps)
