"""The device of a job in torch's terms: found or refused, its clock made safe to read, its memory and versions.

Called by the harness; one of the few modules that import torch.
"""

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from training.reference.order import CannotRun, Order


@dataclass(frozen=True, slots=True)
class Device:
    """`memory_bytes` is the accelerator's own memory, None on a CPU. `precision` is fp32 or bf16, never auto."""

    torch_device: torch.device
    name: str
    memory_bytes: int | None
    precision: str
    threads: int

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    def synchronise(self) -> None:
        """Wait for the device's queue, so that a clock read afterwards tells when the work ended."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch_device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def peak_memory(self) -> tuple[int, str]:
        """Return (bytes, how they were measured)."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated(self.torch_device), "device memory, torch.cuda.max_memory_allocated"
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kibibytes * 1024, "resident memory of the whole process, ru_maxrss"


def open_device(order: Order) -> Device:
    """Return the ordered device, or raise CannotRun; another device is never taken in its place."""
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    if order.device_kind == "cpu":
        precision = _precision(
            order.params["precision"],
            bf16=_cpu_has_bf16(),
            auto="fp32",
            where="this CPU has neither avx512_bf16 nor amx_bf16",
        )
        return Device(torch.device("cpu"), _cpu_name(), None, precision, threads)
    if order.device_kind == "nvidia":
        return _open_cuda(order, threads)
    raise CannotRun(f"reference jobs run on nvidia and cpu devices; this one is {order.device_kind!r}")


def _open_cuda(order: Order, threads: int) -> Device:
    """Return the only CUDA device in sight: the agent shows the process no other (CUDA_VISIBLE_DEVICES)."""
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise CannotRun(
            f"device {order.device_uuid} cannot be used: torch {torch.__version__} {built} and sees no CUDA device; install "
            "torch's CUDA build for this driver, or name an interpreter that has it in STEPWATT_JOB_PYTHON"
        )
    # fp32 means fp32: TensorFloat-32 would be another precision under the same name.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    properties = torch.cuda.get_device_properties(0)
    bf16 = properties.major >= 8
    precision = _precision(
        order.params["precision"],
        bf16=bf16,
        auto="bf16" if bf16 else "fp32",
        where=f"{properties.name} has no bf16 units",
    )
    return Device(torch.device("cuda", 0), properties.name, properties.total_memory, precision, threads)


def _precision(asked: str, *, bf16: bool, auto: str, where: str) -> str:
    if asked == "bf16" and not bf16:
        raise CannotRun(f"precision: bf16 cannot be used, {where}")
    return auto if asked == "auto" else asked


def versions(order: Order) -> dict[str, str]:
    """Return what is known of {python, torch, cuda, cudnn, driver}."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if order.device_kind == "nvidia":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it so
        found |= {"cuda": torch.version.cuda or "", "cudnn": str(cudnn or ""), "driver": order.driver_version}
    return {name: version for name, version in found.items() if version}


def _cpu_has_bf16() -> bool:
    """Say whether the CPU multiplies bf16 itself; without that, bf16 is emulated and slower than fp32."""
    flags = _cpuinfo("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.machine()


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""
