"""Which figures of a result are judged, which way each is good, and why the others are not.

A workload without a row of its own is judged by its step alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is the result's field, or "field/key" where the field holds one figure for each key; the rest is for people."""

    name: str
    words: str
    unit: str
    is_lower_better: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """A field that holds one figure for each size, shape or loop, each judged by itself."""

    field: str
    words: str
    unit: str
    is_lower_better: bool = True

    def metric(self, key: str) -> Metric:
        return Metric(f"{self.field}/{key}", f"{self.words}, {key}", self.unit, self.is_lower_better)


STEP = Metric("step_seconds_median", "median step", "seconds")
_OWN: dict[str, tuple[Metric, ...]] = {
    "gpt-generate": (
        STEP,
        Metric("decode_tokens_per_second", "decoding", "tokens/s", is_lower_better=False),
        Metric("first_token_seconds_median", "time to first token", "seconds"),
        Metric("token_seconds_p99", "99th percentile of a token", "seconds"),
    ),
}
_FAMILIES: dict[str, tuple[Family, ...]] = {
    "resnet-infer": (Family("latency_seconds_median", "median latency", "seconds"),),
    "gemm-sweep": (Family("gemm_flops_per_second", "matrix product", "flop_per_second", is_lower_better=False),),
    "memory-bandwidth": (Family("loop_bytes_per_second", "memory", "bytes_per_second", is_lower_better=False),),
    "allreduce": (Family("bus_bytes_per_second", "bus", "bytes_per_second", is_lower_better=False),),
}
_FOLLOWS = "follows from the steps"
_REPEATS = "repeats of one process are one run: the median of their median steps is judged"
_OF_ALL: dict[str, str] = {
    "samples_per_second": _FOLLOWS,
    "tokens_per_second": _FOLLOWS,
    "achieved_flops_per_second": _FOLLOWS,
    "step_seconds_p95": "a few disturbed steps decide it",
    "compute_seconds_median": "a rank's part of the step: stragglers are found among the ranks",
    "repeat_samples_per_second": _REPEATS,
    "repeat_samples_per_second_median": _REPEATS,
    "repeat_step_seconds_median": _REPEATS,
    "first_step_seconds": "compiling, choosing kernels and cold caches",
    "peak_memory_bytes": "no speed",
}
_OF_ONE: dict[str, dict[str, str]] = {
    "gpt-generate": {
        "prefill_tokens_per_second": "the time to first token the other way round",
        "token_seconds_median": "decoding the other way round",
        "first_token_seconds_p99": "of one value a step the greatest decides it",
    },
    "resnet-infer": {
        "latency_seconds_p99": "of one value a step the greatest decides it",
        "batch_samples_per_second": "the latency the other way round",
    },
    "allreduce": {"sum_seconds_median": "the bus bandwidth the other way round"},
}


def of_workload(workload: str) -> tuple[Metric, ...]:
    """Return the metrics that every result of the workload has, the one that tables show first."""
    return _OWN.get(workload, (STEP,))


def of_families(workload: str, values: Mapping[str, float]) -> list[Metric]:
    """Return the metrics by size, shape or loop that these values hold, in the order of their names."""
    found = (find(workload, name) for name in sorted(values) if "/" in name)
    return [metric for metric in found if metric is not None]


def find(workload: str, name: str) -> Metric | None:
    """Return the metric of that name, None where the workload has none."""
    field, _, key = name.partition("/")
    for family in _FAMILIES.get(workload, ()):
        if key and family.field == field:
            return family.metric(key)
    return next((metric for metric in of_workload(workload) if metric.name == name), None)


def values(workload: str, result: Mapping[str, Any]) -> dict[str, float]:
    """Return {metric: value} of a result, those that it lacks or that are no positive number left out."""
    found: dict[str, Any] = {metric.name: result.get(metric.name) for metric in of_workload(workload)}
    for family in _FAMILIES.get(workload, ()):
        figures = result.get(family.field)
        if isinstance(figures, Mapping):
            found |= {family.metric(str(key)).name: value for key, value in figures.items()}
    return {
        name: float(v) for name, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool) and v > 0
    }


def not_judged(workload: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, why) of each figure of the result that is declared to be judged by nothing."""
    declared = _OF_ALL | _OF_ONE.get(workload, {})
    return ((field, why) for field, why in declared.items() if result.get(field) is not None)
