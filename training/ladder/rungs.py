"""Which rungs a workload's ladder has, bottom first: each adds one technique to the one before. Data; no Django, no torch."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.workloads.workload import Workload

Value = int | str


@dataclass(frozen=True, slots=True)
class Rung:
    """`name` says what it adds; `params` are all that differ from the workload's own defaults."""

    name: str
    params: Mapping[str, Value]


class NoLadder(ValueError):
    """The workload has no ladder; the text says why."""


def rungs(workload: Workload) -> list[Rung]:
    """Return the rungs: fp32 eager, TF32, bf16, then what the model is made of, then compile. Raises NoLadder."""
    names = {param.name for param in workload.params}
    if not workload.is_training or not names & {"layout", "kernels"}:
        raise NoLadder(f"{workload.name} has no ladder: it takes neither a layout nor kernels as a parameter")
    plain: dict[str, Value] = {"layout": "contiguous"} if "layout" in names else {"kernels": "plain"}
    fast: dict[str, Value] = {"layout": "channels-last"} if "layout" in names else {"kernels": "fused"}
    return [
        Rung("fp32 eager", {"precision": "fp32", "compile": "off", **plain}),
        Rung("TF32", {"precision": "tf32", "compile": "off", **plain}),
        Rung("bf16", {"precision": "bf16", "compile": "off", **plain}),
        Rung(
            "channels-last" if "layout" in names else "fused kernels", {"precision": "bf16", "compile": "off", **fast}
        ),
        Rung("compile", {"precision": "bf16", "compile": "on", **fast}),
    ]


def without_precision(found: Sequence[Rung], lacking: str) -> list[Rung]:
    """Return the rungs as they are on a device that lacks a precision: what comes above is climbed without it."""
    return [
        Rung(rung.name, {**rung.params, "precision": "fp32"})
        if rung.params["precision"] == lacking and rung.name.casefold() != lacking
        else rung
        for rung in found
    ]


def blocks(n_rungs: int, n_blocks: int, seed: int) -> list[list[int]]:
    """Return the order of each block: every rung once, shuffled, so that a host that drifts favours none."""
    shuffled = random.Random(seed)  # noqa: S311  an order, no secret
    order = [list(range(n_rungs)) for _ in range(n_blocks)]
    for block in order:
        shuffled.shuffle(block)
    return order
