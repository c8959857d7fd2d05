"""What the micro benchmarks have in common: no model, no loss, a check, and timings of their parts. Called by them."""

from collections.abc import Sequence
from typing import Any

from training.reference.timings import Timings
from training.utilisation.flops import Flops


class Micro:
    """A part of training.reference.work.Work; `step` and `figures` are the benchmark's. A sample is one pass."""

    parameters: int | None = None
    tokens_per_sample: int | None = None
    compute_seconds: float | None = None
    is_common = True

    def __init__(self, model: str, batch_size: int, flops: Flops, data: str) -> None:
        self.model, self.batch_size, self.flops, self.data = model, batch_size, flops, data
        self._timings = Timings()

    def begin_measuring(self) -> None:
        self._timings.clear()

    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return what was checked. Raises CannotRun where a result is wrong."""
        return {"check": self.check()}

    def check(self) -> str:
        raise NotImplementedError
