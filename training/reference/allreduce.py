"""Sums over all ranks by message size: what a distributed training does with its gradients. Called by the harness.

Ranks are those of a distributed job (NCCL on GPUs, gloo on CPUs). Alone on a CPU, a second rank is started on the same CPU:
that measures gloo over loopback, and the result says so.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from training.reference import parent
from training.reference.device import Device
from training.reference.micro import Micro
from training.reference.order import CannotRun
from training.utilisation.flops import Flops

_ELEMENTS = {
    "large": (2**18, 2**22, 2**26),
    "small": (2**18, 2**22, 2**26),
    "cpu": (2**10, 2**16, 2**22),
    "ci": (2**8, 2**12),
}
_PATIENCE = timedelta(seconds=60)  # with a rank that died


def build(device: Device, params: Mapping[str, Any]) -> "AllReduce":
    sums = params["batch_size"] or 1
    sizes = _ELEMENTS[device.tier(params["size"])]
    passes = params["warmup_steps"] + params["repeats"] * params["steps"]
    if not device.ranks.is_alone:
        device.ranks.agree(f"messages of {sizes} elements, {sums} passes, {device.dtype}")
        return AllReduce(device, sizes, sums, f"{device.ranks.world_size} ranks, {device.ranks.backend}")
    if device.is_cuda:
        raise CannotRun("allreduce needs more than one device: launch it over several, one rank each")
    with tempfile.TemporaryDirectory(prefix="stepwatt-allreduce-") as directory:
        _start_second_rank(device, sizes, sums * passes, Path(directory) / "ranks")
    return AllReduce(device, sizes, sums, "2 ranks on this CPU, gloo over loopback")


def _start_second_rank(device: Device, sizes: tuple[int, ...], passes: int, meeting: Path) -> None:
    """Fork a rank 1 that takes part in every sum and ends, or is ended with this process; meet it as rank 0."""
    # Forked before this process's first parallel operation: threads would not come along.
    second = multiprocessing.get_context("fork").Process(
        target=_second_rank, args=(os.getpid(), meeting, device.dtype, sizes, passes), daemon=True
    )
    second.start()
    _join(meeting, 0)


def _join(meeting: Path, rank: int) -> None:
    store = dist.FileStore(str(meeting), 2)  # type: ignore[attr-defined]  # torch exports it unannounced
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=_PATIENCE)
    dist.barrier()  # both have met: the file is needed no more


def _second_rank(first: int, meeting: Path, dtype: torch.dtype, sizes: tuple[int, ...], passes: int) -> None:
    parent.die_with(first)
    _join(meeting, 1)
    messages = _messages(sizes, dtype, torch.device("cpu"))
    for _ in range(passes):
        for message in messages:
            message.fill_(2.0)
            dist.all_reduce(message)
    dist.destroy_process_group()


def _messages(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [torch.empty(size, dtype=dtype, device=device) for size in sizes]


class AllReduce(Micro):
    """Each step does `batch_size` passes: one sum of each message size. Rank r adds r + 1."""

    def __init__(self, device: Device, sizes: tuple[int, ...], passes: int, ranks: str) -> None:
        self._ranks = dist.get_world_size()
        added = (self._ranks - 1) * sum(sizes)
        flops = Flops(added, f"{self._ranks - 1} additions an element, over all ranks, {sum(sizes):,} elements a pass")
        data = f"messages of {', '.join(f'{size * device.dtype.itemsize:,}' for size in sizes)} bytes, {ranks}"
        super().__init__("all-reduce", passes, flops, data)
        self._device = device
        self._messages = _messages(sizes, device.dtype, device.torch_device)

    def step(self) -> None:
        for _ in range(self.batch_size):
            for message in self._messages:
                message.fill_(float(dist.get_rank() + 1))
                self._device.synchronise()
                began = time.perf_counter()
                dist.all_reduce(message)
                self._device.synchronise()
                self._timings.add(_name(message), time.perf_counter() - began)

    def check(self) -> str:
        """Each element is the sum of what the ranks put in: 1 + 2 + … + ranks."""
        expected = self._ranks * (self._ranks + 1) / 2
        for message in self._messages:
            low, high = message.min().item(), message.max().item()
            if (low, high) != (expected, expected):
                raise CannotRun(f"a sum over the ranks holds {low:g} to {high:g} where {expected:g} is right")
        if self._device.ranks.is_alone:
            dist.destroy_process_group()  # the second rank on this CPU does so too
        return f"every element of the last sums is {expected:g}, over {self._ranks} ranks"

    def figures(self) -> dict[str, Any]:
        """Return medians by message: seconds, and the bus bandwidth 2(n − 1)/n × bytes ÷ seconds (nccl-tests, PERFORMANCE.md)."""
        share = 2 * (self._ranks - 1) / self._ranks
        medians = {_name(message): self._timings.median(_name(message)) for message in self._messages}
        return {
            "ranks": self._ranks,
            "sum_seconds_median": medians,
            "bus_bytes_per_second": {
                _name(message): share * message.nbytes / medians[_name(message)] for message in self._messages
            },
        }


def _name(message: Tensor) -> str:
    return f"{message.nbytes} bytes"
