"""What a process tells of itself once, as the header of each of its datagrams: the same bytes each time. Called by the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import devices, wire

if TYPE_CHECKING:
    from .runs import Run

_FRAMEWORKS = ("torch", "tensorflow", "jax")
_COUNTS = ("samples_per_step", "tokens_per_sample", "flops_per_sample")


def of_run(run: Run, process: str, phases: Sequence[str], about: Mapping[str, Any]) -> bytes:
    """Return the header; made at the first step's end, when the loop's device is known."""
    return wire.header(
        {
            "run": run.name,
            "launch": run.launch,
            "restart": run.restart,
            "rank": run.rank,
            "world_size": run.world_size,
            "process": process,
            "pid": os.getpid(),
            "devices": [run.device_uuid] if run.device_uuid else devices.visible(),
            "owner": run.owner,
            "group": run.group,
            "phases": phase_names(phases),
            "about": _about(run, about),
        }
    )


def phase_names(phases: Sequence[str]) -> list[str]:
    """Return names that the wire knows, each once."""
    names: list[str] = []
    for phase in phases:
        name = base = wire.phase_name(phase)
        n = 1
        while name in names:
            n += 1
            name = f"{base[:37]}_{n}"
        names.append(name)
    return names


def _about(run: Run, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the loop says of itself, as far as it does, and what runs it."""
    told: dict[str, Any] = {name: value for name, value in about.items() if value}
    told.update({name: value for name in _COUNTS if (value := getattr(run, name)) is not None})
    told.setdefault("framework", _framework())
    told["python"] = ".".join(map(str, sys.version_info[:3]))
    return told


def _framework() -> str:
    """Return the framework that is loaded, with its version."""
    for name in _FRAMEWORKS:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            return f"{name} {version}"[:100]
    return ""
