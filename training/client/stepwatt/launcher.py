"""Who this process is among the ranks of a training, from the variables that launchers set. Called by the run.

torchrun and Accelerate: RANK, WORLD_SIZE, TORCHELASTIC_…; Slurm: SLURM_PROCID …; Open MPI: OMPI_COMM_WORLD_…; MPICH and
Intel MPI: PMI_…; MVAPICH: MV2_COMM_WORLD_….
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Mapping
from typing import NamedTuple

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")
_SIZES = (
    "WORLD_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
)
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE")
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.:-]")
_MAX_LAUNCH = 64


class Place(NamedTuple):
    """A rank (from 0) of `world_size`, in one launch of a run, which was started again `restart` times."""

    rank: int
    world_size: int
    launch: str
    restart: int


def place(env: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place; alone, rank 0 of 1, where no launcher says otherwise."""
    rank, size = _first(env, _RANKS, 0), max(1, _first(env, _SIZES, 1))
    return Place(rank, size, launch_id(_launch(env, size)), _first(env, _RESTARTS, 0))


def group(env: Mapping[str, str] = os.environ) -> str:
    """Return on whose account the process runs, "" where nothing says so."""
    return env.get("STEPWATT_GROUP") or env.get("SLURM_JOB_ACCOUNT") or ""


def launch_id(text: str | None) -> str:
    """Return the text with the signs that a launch's name may have, "" for none."""
    return _FOREIGN.sub("-", str(text))[:_MAX_LAUNCH] if text else ""


def _launch(env: Mapping[str, str], size: int) -> str:
    """Return a name that all ranks of this launch, and no other launch, come to; a restart of it is the same launch.

    A process by itself is a launch by itself, unless Slurm or torchrun names it: then it goes on when it is requeued.
    Without a name from the environment, ranks of one host share the process that started them. Ranks of several hosts that
    a launcher gives no common name share the master's address only: set STEPWATT_LAUNCH for those.
    """
    if env.get("STEPWATT_LAUNCH"):
        return env["STEPWATT_LAUNCH"]
    if env.get("TORCHELASTIC_RUN_ID", "none") != "none":
        common = env["TORCHELASTIC_RUN_ID"]
    elif env.get("SLURM_JOB_ID") and (size > 1 or env.get("SLURM_STEP_ID")):
        common = "-".join([env["SLURM_JOB_ID"], *filter(None, [env.get("SLURM_STEP_ID")])])
    elif size == 1:
        common = ""
    elif env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid"):
        common = env.get("PMIX_NAMESPACE") or env["OMPI_MCA_ess_base_jobid"]
    elif _first(env, _LOCAL_SIZES, 0) == size:
        common = f"{socket.gethostname()}-{os.getppid()}-{_started_ticks(os.getppid())}"
    else:
        common = "-".join(filter(None, [env.get("MASTER_ADDR"), env.get("MASTER_PORT")]))
    return common or uuid.uuid4().hex


def _started_ticks(pid: int) -> str:
    """Return when a process started, in ticks since boot (/proc/PID/stat, field 22), "0" where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _first(env: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = env.get(name, "")
        if value.isdecimal():
            return int(value)
    return default
