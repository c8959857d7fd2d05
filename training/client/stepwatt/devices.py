"""Which devices this process computes on, by their UUIDs, without loading a driver's library. Called by the run.

What torch says of its present device counts first, where torch is there and has a device; else what CUDA_VISIBLE_DEVICES
leaves of the GPUs that the NVIDIA driver shows in /proc; of several, the one of the process's place on this host. In a
container the driver may show all GPUs of the host: those count whose device file is there.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence

_INFORMATION = "/proc/driver/nvidia/gpus/*/information"
_UUID = re.compile(r"GPU UUID:\s*(GPU-[0-9a-fA-F-]+)")
_MINOR = re.compile(r"Device Minor:\s*(\d+)")
_FILES = "/dev/nvidia"
_INDICES = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_LOCAL_RANKS = (
    "LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
)  # fmt: skip
_MOST = 16


def visible(env: Mapping[str, str] = os.environ, information: str = _INFORMATION, files: str = _FILES) -> list[str]:
    """Return UUIDs, or indices of the host's accelerators where nothing tells the UUIDs; [] where nothing is known."""
    return _of_torch() or _of_place(_of_environment(env, _gpus(information, files)), env)


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


def _of_environment(env: Mapping[str, str], there: Sequence[str]) -> list[str]:
    """CUDA_VISIBLE_DEVICES counts what is there; NVIDIA_VISIBLE_DEVICES says what was put there, and counts the host's GPUs."""
    chosen = env.get("CUDA_VISIBLE_DEVICES", "all")
    words = _words(chosen)
    if chosen != "all" and not all(word.isdecimal() for word in words):
        return _uuids(words)
    if chosen != "all":
        return [there[int(word)] for word in words if int(word) < len(there)] if there else words
    for name in _INDICES:
        words = _words(env.get(name, ""))
        if words and all(word.isdecimal() for word in words):
            return words
    put = _words(env.get("NVIDIA_VISIBLE_DEVICES", ""))
    return _uuids(put) or list(there) or [word for word in put if word.isdecimal()]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _uuids(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith(("GPU-", "MIG-"))]


def _of_place(devices: Sequence[str], env: Mapping[str, str]) -> list[str]:
    for name in _LOCAL_RANKS:
        local = env.get(name, "")
        if len(devices) > 1 and local.isdecimal() and int(local) < len(devices):
            return [devices[int(local)]]
    return list(devices[:_MOST])


def _gpus(information: str, files: str) -> list[str]:
    """Return the UUIDs that the driver shows, in the order of their bus addresses, as nvidia-smi counts them."""
    found = []
    for path in sorted(glob.glob(information)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        uuid, minor = _UUID.search(text), _MINOR.search(text)
        if uuid and (minor is None or os.path.exists(files + minor[1])):
            found.append(uuid[1])
    return found
