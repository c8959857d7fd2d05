"""The catalogue of reference workloads as data: what the form, the API, the command and the host all read.

A host runs only what stands here, with parameters that `validate` has passed. Imports no Django and no torch; runs on the
job's interpreter too, so nothing outside the standard library.
"""

from collections.abc import Mapping
from typing import Any

from training.workloads.checked import CHECKED
from training.workloads.params import ParamsInvalid
from training.workloads.trained import TRAININGS
from training.workloads.workload import Workload

# Parameters that came when others were in use already, with the value that is meant without them.
_LATER = {"repeats": 1}
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in (*TRAININGS, *CHECKED)}


def find(workload_name: object) -> Workload:
    """Return the workload. Raises ParamsInvalid with the field `workload` where there is none of that name."""
    workload = WORKLOADS.get(workload_name) if isinstance(workload_name, str) else None
    if workload is None:
        raise ParamsInvalid("workload", f"{workload_name!r} is not one of {', '.join(WORKLOADS)}")
    return workload


def validate(workload_name: object, params: Mapping[str, object]) -> tuple[Workload, dict[str, int | str]]:
    """Return (workload, every parameter with its value or default). Raises ParamsInvalid.

    Later parameters stand last, as in what is stored of jobs from before: SQLite finds equal JSON by its text, order and all.
    """
    workload = find(workload_name)
    given = {name: workload.param(str(name)).check(value) for name, value in params.items()}
    ordered = sorted(workload.params, key=lambda param: param.name in _LATER)
    return workload, {param.name: given.get(param.name, param.default) for param in ordered}


def read_texts(workload_name: object, texts: Mapping[str, str]) -> dict[str, int | str]:
    """Return the parameters that a form or a command line gave as text; empty ones are left out. Raises ParamsInvalid."""
    workload = find(workload_name)
    return {name: workload.param(name).read(text.strip()) for name, text in texts.items() if text.strip()}


def why_not_as_one(workload: Workload) -> str:
    """Return why the workload is no distributed job, with those that are; "" where it is one."""
    if workload.is_distributable:
        return ""
    able = ", ".join(each.name for each in WORKLOADS.values() if each.is_distributable)
    return f"{workload.name} does not run as one job over several devices; {able} do"


def as_before(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without later ones that say nothing new: agents and results of earlier releases know none."""
    return {name: value for name, value in params.items() if name not in _LATER or value != _LATER[name]}
