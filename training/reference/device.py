"""The device of a job in torch's terms: found or refused, its clock made safe to read, its precision, memory and versions.

Called by the harness and by the workloads that are built on torch.
"""

import importlib.util
import os
import platform
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from training.reference import heap, ranks
from training.reference.order import CannotRun, Order
from training.reference.ranks import ALONE, Ranks

_LARGE_BYTES = 15e9  # what a "16 GB" accelerator reports at least
_LOWER = {"bf16": torch.bfloat16, "fp16": torch.float16}

Run = TypeVar("Run", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Device:
    """`memory_bytes` is the accelerator's own memory, None on a CPU. `precision` is one of `offered`, never auto.

    `compiles` where the order asks for it; that there is a compiler has been seen to.
    """

    torch_device: torch.device
    name: str
    memory_bytes: int | None
    precision: str
    threads: int
    offered: tuple[str, ...] = ("fp32",)
    compiles: bool = False
    ranks: Ranks = ALONE

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Return in what numbers are kept where nothing needs more precision; tf32 is kept as fp32."""
        return _LOWER.get(self.precision, torch.float32)

    def tier(self, size: object) -> str:
        """Return which of a workload's sizes fits: large, small, cpu, or ci where the order's `size` asks for it."""
        if size == "ci":
            return "ci"
        if self.memory_bytes is None:
            return "cpu"
        return "large" if self.memory_bytes >= _LARGE_BYTES else "small"

    def synchronise(self) -> None:
        """Wait for the device's queue, so that a clock read afterwards tells when the work ended."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch_device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.torch_device.type, dtype=self.dtype, enabled=self.precision in _LOWER)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps fp16's small gradients from vanishing; it does nothing in other precisions."""
        return torch.amp.GradScaler(self.torch_device.type, enabled=self.precision == "fp16")

    def compile(self, run: Run) -> Run:
        """Return the function or module, compiled at its first call where the order asks for it."""
        return torch.compile(run, dynamic=False) if self.compiles else run  # type: ignore[return-value]

    def compilations(self) -> int:
        if not self.compiles:
            return 0
        from torch._dynamo.utils import counters

        return int(counters["stats"]["unique_graphs"])

    def peak_memory(self) -> tuple[int, str]:
        """Return (bytes, how they were measured)."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated(self.torch_device), "device memory, torch.cuda.max_memory_allocated"
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kibibytes * 1024, "resident memory of the whole process, ru_maxrss"


def open_device(order: Order) -> Device:
    """Return the ordered device, or raise CannotRun; another device is never taken in its place. Sets torch's seed.

    A rank of a distributed job has met the others then.
    """
    device = _open(order)
    if order.meeting is None:
        return device
    return replace(device, ranks=ranks.join(order.meeting, device.torch_device, order.params["seed"]))


def _open(order: Order) -> Device:
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(order.params["seed"])
    if order.device_kind == "cpu":
        return _open_cpu(order, threads)
    if order.device_kind == "nvidia":
        return _open_cuda(order, threads)
    raise CannotRun(f"reference jobs run on nvidia and cpu devices; this one is {order.device_kind!r}")


def _open_cpu(order: Order, threads: int) -> Device:
    """A precision that the CPU does not multiply itself is not offered: emulated, it is slower than fp32."""
    heap.keep()
    flags = set(_cpuinfo("flags").split())
    offered = ["fp32"]
    offered += ["bf16"] if flags & {"avx512_bf16", "amx_bf16"} else []
    offered += ["fp16"] if flags & {"avx512_fp16", "amx_fp16"} else []
    precision = _precision(order.params["precision"], offered, "fp32", "this CPU")
    name = _cpuinfo("model name") or platform.machine()
    return Device(torch.device("cpu"), name, None, precision, threads, tuple(offered), _compiles(order))


def _open_cuda(order: Order, threads: int) -> Device:
    """Return the only CUDA device in sight: the agent shows the process no other (CUDA_VISIBLE_DEVICES)."""
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise CannotRun(
            f"device {order.device_uuid} cannot be used: torch {torch.__version__} {built} and sees no CUDA device; install "
            "torch's CUDA build for this driver, or name an interpreter that has it in STEPWATT_JOB_PYTHON"
        )
    properties = torch.cuda.get_device_properties(0)
    offered = [
        "fp32",
        *(["tf32", "bf16"] if properties.major >= 8 else []),
        *(["fp16"] if properties.major >= 7 else []),
    ]
    best = "bf16" if "bf16" in offered else "fp32"
    precision = _precision(order.params["precision"], offered, best, properties.name)
    use_tf32(on=precision == "tf32")
    torch.backends.cudnn.benchmark = True
    return Device(
        torch.device("cuda", 0),
        properties.name,
        properties.total_memory,
        precision,
        threads,
        tuple(offered),
        _compiles(order),
    )


def use_tf32(*, on: bool) -> None:
    """Have fp32 products take TensorFloat-32 or not: fp32 means fp32, tf32 is another precision under its own name."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def _precision(asked: str, offered: list[str], best: str, where: str) -> str:
    if asked != "auto" and asked not in offered:
        raise CannotRun(f"precision: {asked} is not offered, {where} has only {', '.join(offered)}")
    return best if asked == "auto" else asked


def _compiles(order: Order) -> bool:
    """Say whether the order asks to compile. Raises CannotRun where that needs what this host lacks."""
    if order.params["compile"] == "off":
        return False
    if order.device_kind == "nvidia" and importlib.util.find_spec("triton") is None:
        raise CannotRun("compile is not offered: torch.compile needs triton for a GPU, which this interpreter lacks")
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise CannotRun(
            "compile is not offered: torch.compile needs a C++ compiler, g++ or clang++, on this host's PATH"
        )
    return True


def versions(order: Order) -> dict[str, str]:
    """Return what is known of {python, torch, cuda, cudnn, driver}, and on a CPU of the {allocator}."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if order.device_kind == "nvidia":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it so
        found |= {"cuda": torch.version.cuda or "", "cudnn": str(cudnn or ""), "driver": order.driver_version}
    else:
        found["allocator"] = heap.described()
    return {name: version for name, version in found.items() if version}


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""
