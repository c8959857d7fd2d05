"""Which figures of a result are judged, and which way each is good. A workload without a row is judged by its step alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is the result's field; `words` and `unit` are for people."""

    name: str
    words: str
    unit: str
    is_lower_better: bool = True


STEP = Metric("step_seconds_median", "median step", "seconds")
_OWN: dict[str, tuple[Metric, ...]] = {
    "gpt-generate": (
        STEP,
        Metric("decode_tokens_per_second", "decoding", "tokens/s", is_lower_better=False),
        Metric("first_token_seconds_median", "time to first token", "seconds"),
    ),
}


def of_workload(workload: str) -> tuple[Metric, ...]:
    """Return the metrics, the one that tables show first."""
    return _OWN.get(workload, (STEP,))


def values(workload: str, result: Mapping[str, Any]) -> dict[str, float]:
    """Return {metric: value} of a result, those that it lacks or that are no positive number left out."""
    found = {metric.name: result.get(metric.name) for metric in of_workload(workload)}
    return {
        name: float(v) for name, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool) and v > 0
    }
