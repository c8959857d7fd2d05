"""What must be equal for two results to be compared: device model, workload, parameters, software; ranks and hosts; the origin.

The driver's version is no part of it: a driver that makes a host slower is to be found.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fleet.models import Origin
from training.models import ReferenceJob
from training.workloads.catalog import as_before

# What the device chose by itself counts as a parameter: it decides how much work a step is.
_CHOSEN = ("model", "batch_size", "precision", "size", "compile", "data")


def parts(job: ReferenceJob) -> dict[str, Any]:
    """Return the parts of a finished job's key, by name. CPUs are alike only with as many threads."""
    result: Mapping[str, Any] = job.result
    versions = result.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    is_cpu = job.device is not None and not job.device.is_accelerator
    return {
        "device_model": str(result.get("device_name") or (job.device.model if job.device else "")),
        "workload": job.workload,
        "params": dict(sorted(as_before(job.params).items())),
        "chosen": {name: result.get(name) for name in _CHOSEN if result.get(name) is not None},
        "threads": result.get("threads") if is_cpu else None,
        "software": {name: version for name, version in sorted(versions.items()) if name != "driver"},
        **({} if job.host.origin == Origin.REAL else {"origin": str(job.host.origin)}),  # no measure of real devices
        **_of_team(job),
    }


def _of_team(job: ReferenceJob) -> dict[str, Any]:
    """Return what a distributed job adds: how many ranks it had, on how many hosts, of which models."""
    if job.team is None:
        return {}
    models = sorted(job.team.jobs.values_list("device__model", flat=True), key=str)
    return {"ranks": job.team.world_size, "hosts": job.team.n_hosts, "models": [str(model) for model in models]}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what two keys' parts differ in, by name; of the software which of it. What only one of them tells differs."""
    names: list[str] = []
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name), other.get(name)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            names += differences(mine, theirs)
        elif mine != theirs:
            names.append(name.replace("_", " "))
    return names


def digest(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()
