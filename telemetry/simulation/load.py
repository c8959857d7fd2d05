"""What a simulated GPU is asked to do at a moment: training, inference or nothing. Called by the simulated hosts. No Django."""

import math
import random
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """Shares from 0 to 1 of what the board can do at full clocks; `memory` is the share of its memory in use.

    `allocation` says who has the board, in the catalogue's codes.
    """

    sm: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    fp32: float = 0.0
    fp16: float = 0.0
    nvlink: float = 0.0
    pcie_in: float = 0.0
    pcie_out: float = 0.0
    memory: float = 0.004
    command: str = ""  # of the process that does it; "" where nobody does anything
    user: str = ""
    allocation: int = 0


_SLURM_JOB, _POD = 2, 3
IDLE = Load()
_RESERVED = Load(allocation=_SLURM_JOB)
_COMPUTE = Load(0.98, 0.63, 0.46, 0.07, 0.04, 0.16, 0.004, 0.001, 0.88, "python train.py", "ml-train", _SLURM_JOB)
_REDUCE = replace(_COMPUTE, tensor=0.14, dram=0.30, nvlink=0.78)  # gradients are exchanged
_VALIDATE = replace(_COMPUTE, sm=0.95, tensor=0.52, dram=0.40, nvlink=0.05)
_SAVE = replace(_COMPUTE, sm=0.02, tensor=0.0, dram=0.03, fp32=0.0, fp16=0.0, nvlink=0.0, pcie_out=0.35)
_STARVE = replace(_COMPUTE, sm=0.04, tensor=0.0, dram=0.02, fp32=0.0, fp16=0.0, nvlink=0.0)  # waits for data
_SERVE = Load(1.0, 0.34, 0.82, 0.05, 0.09, 0.06, 0.010, 0.006, 0.91, "vllm serve llama-70b", "inference", _POD)
_TRIAL = replace(_COMPUTE, command="python -m ipykernel_launcher", user="ml-lab", tensor=0.3, dram=0.3)
PHASES = {"compute": _COMPUTE, "reduce": _REDUCE, "validate": _VALIDATE, "save": _SAVE, "starve": _STARVE}

DAY_SECONDS = 86_400.0
_BREAK_SECONDS, _TRIAL_SECONDS = 3600.0, 900.0
_PEAK_SECONDS = 14 * 3600.0  # people ask most in the early afternoon


class Task(Protocol):
    """What a host's GPUs do over time; asked once a tick, in order of time (UTC seconds)."""

    def at(self, seconds: float) -> Load: ...


class Nothing:
    """No work, and nobody has the GPUs."""

    def at(self, seconds: float) -> Load:
        return IDLE


class Session:
    """A job that keeps the GPUs for somebody who tries things out: mostly nothing, a while of work after each break."""

    def __init__(self, start: float) -> None:
        self._start = start

    def at(self, seconds: float) -> Load:
        is_break = (seconds - self._start) % (_BREAK_SECONDS + _TRIAL_SECONDS) < _BREAK_SECONDS
        return _RESERVED if is_break else _TRIAL


class Inference:
    """Serving: follows the hour of the day, with bursts of some seconds."""

    def __init__(self, seed: str) -> None:
        self._choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self._burst_from = self._burst_until = 0.0
        self._strength = 0.0

    def at(self, seconds: float) -> Load:
        if seconds >= self._burst_until:
            self._burst_from = max(seconds, self._burst_until) + self._choose.expovariate(1 / 90)
            self._burst_until = self._burst_from + self._choose.uniform(5, 40)
            self._strength = self._choose.uniform(0.1, 0.5)
        hour = math.cos((seconds - _PEAK_SECONDS) / DAY_SECONDS * math.tau)
        rate = 0.45 + 0.25 * hour + (self._strength if seconds >= self._burst_from else 0.0)
        rate = min(1.0, max(0.02, rate + self._choose.uniform(-0.04, 0.04)))
        return scaled(_SERVE, rate)


def scaled(load: Load, rate: float) -> Load:
    """Return the load with its work scaled; memory stays."""
    return replace(
        load, sm=load.sm * rate, tensor=load.tensor * rate, dram=load.dram * rate, fp32=load.fp32 * rate,
        fp16=load.fp16 * rate, nvlink=load.nvlink * rate, pcie_in=load.pcie_in * rate, pcie_out=load.pcie_out * rate,
    )  # fmt: skip
