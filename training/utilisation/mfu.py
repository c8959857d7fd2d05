"""Model FLOPs utilisation: what the model's arithmetic needs, over what the run's devices can do at most. Called by the figures.

A ratio stands only where numerator and denominator both do, and both go with it. Standard library only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from training.utilisation import hardware
from training.utilisation.flops import Flops
from training.utilisation.hardware import Spec

_PLAIN = {
    "fp64": "fp64", "float64": "fp64", "double": "fp64",
    "fp32": "fp32", "float32": "fp32", "float": "fp32", "32": "fp32", "32-true": "fp32", "no": "fp32",
    "tf32": "tf32", "tensorfloat32": "tf32",
    "fp16": "fp16", "float16": "fp16", "half": "fp16", "16": "fp16", "16-mixed": "fp16", "16-true": "fp16",
    "amp_fp16": "fp16", "amp fp16": "fp16", "mixed_float16": "fp16",
    "bf16": "bf16", "bfloat16": "bf16", "bf16-mixed": "bf16", "bf16-true": "bf16", "amp_bf16": "bf16",
    "amp bf16": "bf16", "mixed_bfloat16": "bf16",
}  # fmt: skip
_QUANTISED = ("fp8", "float8", "mxfp", "nvfp", "fp6", "fp4", "float4", "int8", "int4", "uint8", "nf4", "e4m3", "e5m2")


class RunDevice(NamedTuple):
    """A device that a run uses: its UUID, its name as the driver gives it, its memory where it is known."""

    uuid: str
    model: str
    memory_bytes: float | None = None
    profile: str = ""


class Peak(NamedTuple):
    """The peak of `n_devices` equal devices, together in FLOP/s; `spec` is one device's, with sources and doubts."""

    name: str
    n_devices: int
    flops_per_second: float
    spec: Spec


@dataclass(frozen=True, slots=True)
class Denominator:
    """The sum of the devices' dense peaks at a dtype; None with the reason where one of them is not known."""

    flops_per_second: float | None
    dtype: str
    peaks: tuple[Peak, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mfu:
    """`ratio` = `achieved_flops_per_second` / the denominator's; None with the `reason`. `method` says how FLOPs were counted."""

    ratio: float | None
    reason: str
    achieved_flops_per_second: float | None
    method: str
    denominator: Denominator

    @property
    def doubts(self) -> list[str]:
        """Return what makes the denominator doubtful, by device."""
        return [f"{peak.name}: {doubt}" for peak in self.denominator.peaks for doubt in peak.spec.doubts]


def mfu(
    flops: Flops | None,
    units_per_second: float | None,
    devices: Iterable[RunDevice],
    dtype: str,
    why_no_flops: str = "",
) -> Mfu:
    """Return the MFU of a rate (units/s over a window of wall time, all ranks together) on these devices, each counted once.

    `flops` are those of one such unit (sample or token), forward and backward.
    """
    below = denominator(devices, dtype)
    if flops is None:
        return Mfu(None, why_no_flops or "the FLOPs of a sample are not known", None, "", below)
    if units_per_second is None:
        return Mfu(None, "no rate in this window", None, flops.method, below)
    achieved = flops.count * units_per_second
    if below.flops_per_second is None:
        return Mfu(None, below.reason, achieved, flops.method, below)
    return Mfu(achieved / below.flops_per_second, "", achieved, flops.method, below)


def denominator(devices: Iterable[RunDevice], dtype: str) -> Denominator:
    """Return the sum of the dense peaks of the devices; of different ones each counts with its own."""
    plain, reason = _dtype(dtype)
    if reason:
        return Denominator(None, dtype, (), reason)
    once = {device.uuid: device for device in devices}
    if not once:
        return Denominator(None, plain, (), "the devices of the run are not known")
    alike: dict[tuple[str, float | None, str], list[RunDevice]] = {}
    for device in once.values():
        alike.setdefault((device.model, device.memory_bytes, device.profile), []).append(device)
    peaks: list[Peak] = []
    for same in alike.values():
        peak, reason = _peak(same, plain)
        if peak is None:
            return Denominator(None, plain, (), reason)
        peaks.append(peak)
    return Denominator(sum(peak.flops_per_second for peak in peaks), plain, tuple(_joined(peaks)))


def _peak(same: Sequence[RunDevice], dtype: str) -> tuple[Peak | None, str]:
    device = same[0]
    if device.profile:
        return None, f"{device.profile} is a part of {device.model}, whose share of the peak is not published"
    found = hardware.find(device.model, device.memory_bytes)
    if found.hardware is None:
        return None, found.reason
    spec = found.hardware.peaks.get(dtype)
    if spec is None:
        return None, f"the catalogue has no {dtype} peak of {found.hardware.name}"
    return Peak(found.hardware.name, len(same), spec.value * len(same), spec), ""


def _joined(peaks: Iterable[Peak]) -> list[Peak]:
    """Join the peaks of one catalogue entry: drivers differ in what they call the same device."""
    by_name: dict[str, Peak] = {}
    for peak in peaks:
        known = by_name.get(peak.name)
        by_name[peak.name] = peak if known is None else Peak(
            peak.name, known.n_devices + peak.n_devices, known.flops_per_second + peak.flops_per_second, peak.spec
        )  # fmt: skip
    return list(by_name.values())


def _dtype(told: str) -> tuple[str, str]:
    """Return the catalogue's name of a dtype as frameworks call it, or why there is none."""
    plain = told.strip().lower().removeprefix("torch.").removeprefix("tf.").removeprefix("jnp.")
    if not plain:
        return "", "the loop does not tell the dtype of its arithmetic"
    if any(mark in plain for mark in _QUANTISED):
        return "", f"{told}: a quantised path computes at several precisions, so that no one peak is its denominator"
    if plain not in _PLAIN:
        return "", f"dtype {told!r} is not known"
    return _PLAIN[plain], ""
