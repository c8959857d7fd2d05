"""What others have published of a device, beside what a reference job measured on it: peaks, bandwidths, throughputs.

It stands beside and is never a baseline: other software, other batches, sometimes other measures. Peaks and bandwidths are the
hardware catalogue's, throughputs published.csv's, each with its source. Called by the verdict's panel and the tables' files;
standard library only.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from training.utilisation import hardware, mfu
from training.utilisation.hardware import Spec
from training.utilisation.mfu import RunDevice

_WITHOUT_MODEL = ("gemm-sweep", "memory-bandwidth", "allreduce")
_BANDWIDTH_LOOP = "triad"  # of STREAM's four, the one that is usually told


@dataclass(frozen=True, slots=True)
class Published:
    """`measured` is the job's figure of the same unit; `source` names who published it, and doubts about it."""

    what: str
    value: float
    measured: float
    unit: str
    source: str

    @property
    def share(self) -> float:
        return self.measured / self.value


def beside(workload: str, result: Mapping[str, Any], device: RunDevice) -> tuple[list[Published], str]:
    """Return what is published of the device for such a job, or why nothing is."""
    found = hardware.find(device.model, device.memory_bytes)
    if found.hardware is None:
        return [], found.reason
    if device.profile:
        return [], f"{device.profile} is a part of {device.model}, of which nothing is published"
    figures = [*_throughputs(workload, result, found.hardware.name), *_of_hardware(workload, result, device)]
    return figures, "" if figures else f"nothing is published of {found.hardware.name} for {workload}"


def _throughputs(workload: str, result: Mapping[str, Any], device: str) -> Iterator[Published]:
    alike = {"workload": workload, "model": result.get("model"), "device": device, "precision": result.get("precision")}
    for row in _rows():
        measured = _number(result.get(row["field"]))
        if measured is not None and alike.items() <= row.items():
            yield Published(row["what"], float(row["value"]), measured, row["unit"], row["source"])


def _of_hardware(workload: str, result: Mapping[str, Any], device: RunDevice) -> Iterator[Published]:
    if workload == "memory-bandwidth":
        yield from _bandwidth(result, device)
    elif workload == "gemm-sweep":
        for dtype, fastest in sorted(_fastest(result.get("gemm_flops_per_second")).items()):
            yield from _peak(f"fastest product at {dtype} beside the dense peak", dtype, fastest, device)
    elif workload not in _WITHOUT_MODEL:
        dtype, rate = str(result.get("precision")), _number(result.get("achieved_flops_per_second"))
        yield from _peak(f"model FLOPs beside the dense peak at {dtype} (MFU)", dtype, rate, device)


def _peak(words: str, dtype: str, rate: float | None, device: RunDevice) -> Iterator[Published]:
    below = mfu.denominator([device], dtype)
    if rate is not None and below.flops_per_second is not None:
        yield Published(words, below.flops_per_second, rate, "flop_per_second", below.peaks[0].spec.sentence)


def _bandwidth(result: Mapping[str, Any], device: RunDevice) -> Iterator[Published]:
    found, loops = hardware.find(device.model, device.memory_bytes).hardware, result.get("loop_bytes_per_second")
    spec: Spec | None = found.memory_bytes_per_second if found is not None else None
    measured = _number(loops.get(_BANDWIDTH_LOOP)) if isinstance(loops, Mapping) else None
    if spec is not None and measured is not None:
        words = f"{_BANDWIDTH_LOOP} beside the memory's bandwidth"
        yield Published(words, spec.value, measured, "bytes_per_second", spec.sentence)


def _fastest(products: object) -> dict[str, float]:
    """Return the greatest rate by dtype, with which the name of each product begins."""
    best: dict[str, float] = {}
    for name, value in products.items() if isinstance(products, Mapping) else ():
        rate, dtype = _number(value), str(name).partition(" ")[0]
        if rate is not None:
            best[dtype] = max(rate, best.get(dtype, 0.0))
    return best


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
