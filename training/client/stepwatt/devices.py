"""Which devices this process computes on, by their UUIDs, without loading a driver's library. Called by the run.

What torch says of its present device counts first, where torch is there and has a device; else what CUDA_VISIBLE_DEVICES
leaves of the GPUs that the NVIDIA driver shows in /proc; of several, the one of the process's place on this host.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence

_INFORMATION = "/proc/driver/nvidia/gpus/*/information"
_UUID = re.compile(r"GPU UUID:\s*(GPU-[0-9a-fA-F-]+)")
_INDICES = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_LOCAL_RANKS = (
    "LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
)  # fmt: skip
_MOST = 16


def visible(env: Mapping[str, str] = os.environ, information: str = _INFORMATION) -> list[str]:
    """Return UUIDs, or indices of the host's accelerators where nothing tells the UUIDs; [] where nothing is known."""
    return _of_torch() or _of_place(_of_environment(env, information), env)


def _of_torch() -> list[str]:
    """Return torch's present device; only a process that computes on one already has it asked."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return []
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    except Exception:  # noqa: BLE001 — another's library, of any version: what it does not tell is looked for elsewhere
        return []
    return [uuid if "-" in uuid[:5] else f"GPU-{uuid}"]


def _of_environment(env: Mapping[str, str], information: str) -> list[str]:
    names = env.get("CUDA_VISIBLE_DEVICES", env.get("NVIDIA_VISIBLE_DEVICES", "all"))
    if names not in {"all", ""}:
        words = [word.strip() for word in names.split(",") if word.strip()]
        if not all(word.isdecimal() for word in words):
            return [word for word in words if word.startswith(("GPU-", "MIG-"))]
        there = _gpus(information)
        return [there[int(word)] for word in words if int(word) < len(there)] if there else words
    if names == "":
        return []
    for name in _INDICES:
        words = env.get(name, "").split(",")
        if all(word.strip().isdecimal() for word in words):
            return [word.strip() for word in words]
    return _gpus(information)


def _of_place(devices: Sequence[str], env: Mapping[str, str]) -> list[str]:
    for name in _LOCAL_RANKS:
        local = env.get(name, "")
        if len(devices) > 1 and local.isdecimal() and int(local) < len(devices):
            return [devices[int(local)]]
    return list(devices[:_MOST])


def _gpus(information: str) -> list[str]:
    """Return the UUIDs that the driver shows, in the order of their bus addresses, as nvidia-smi counts them."""
    found = []
    for path in sorted(glob.glob(information)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                uuid = _UUID.search(file.read())
        except OSError:
            continue
        found += [uuid[1]] if uuid else []
    return found
