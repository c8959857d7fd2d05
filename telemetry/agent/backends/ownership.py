"""Whose a process is, from `/proc`: user, command, container and Slurm job.

Called by the backends for the processes that their drivers name, on whatever device. Of a process's environment it takes
the Slurm job's number and nothing else. Imports nothing of the project.
"""

import pwd
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

COMMAND_LENGTH = 200
_NAME_LENGTH = 100
_READ_BYTES = 1 << 16
_ENVIRONMENT_BYTES = 1 << 20
_SHORT_ID = 12  # as container tools print their ids

# The innermost container counts, so that a cluster inside a container names the pod's.
_CONTAINER_ID = re.compile(r"(?:^|[/:])(?:(?P<prefix>[a-z][a-z-]*?)[-:])?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)")
_RUNTIMES = {"cri-containerd": "containerd", "crio": "crio", "docker": "docker", "libpod": "podman"}
_RUNTIME_FOLDERS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod_parent", "podman"))
_POD = re.compile(
    r"[/-]pod(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?(?=[/:]|$)"  # of a mirror pod: 32 digits
)
_LXC = re.compile(r"(?:^|/)(?:lxc\.payload\.|lxc\.payload/|lxc/)(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?=/|$)")
_SLURM_JOB = re.compile(r"/[^/]*slurm[^/]*/(?:[^/]+/)*?job_(?P<job>\d{1,20})(?=/|$)")
_SLURM_VARIABLE = re.compile(rb"(?:^|\0)SLURM_JOB_ID=(?P<job>\d{1,20})(?=\0|$)")


@dataclass(frozen=True, slots=True)
class Owner:
    """What `/proc` does not tell is "". `container` reads "docker:<id>", "containerd:<id> pod:<uid>" or "lxc:<name>"."""

    user: str = ""
    command: str = ""
    container: str = ""
    slurm_job: str = ""


def describe(pid: int, proc: Path = Path("/proc")) -> Owner:
    """Return whose the process is now; an Owner of empty texts where it has ended or is another's and hidden.

    A process that was described before costs the reading of one line: what is asked for hardly changes in its life.
    """
    started = _started(proc / str(pid))
    return Owner() if started is None else _describe(pid, started, proc)


@lru_cache(maxsize=4096)
def _describe(pid: int, started: str, proc: Path) -> Owner:
    """Read everything once for a process; a pid that is used again has another start."""
    folder = proc / str(pid)
    groups = _read(folder / "cgroup").decode(errors="replace")
    return Owner(
        user=_user(folder),
        command=_command(folder),
        container=container_of(groups),
        slurm_job=slurm_job_of(groups) or _slurm_variable(folder),
    )


def _read(path: Path, limit: int = _READ_BYTES) -> bytes:
    """Return the file's beginning, nothing where it is gone with its process or hidden from this user."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _started(folder: Path) -> str | None:
    """Return field 22 of proc(5)'s stat, clock ticks from boot to start; the command before it may hold anything."""
    fields = _read(folder / "stat").decode(errors="replace").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else None


def _user(folder: Path) -> str:
    for line in _read(folder / "status").splitlines():
        if line.startswith(b"Uid:"):
            numbers = line.split()[1:2]  # the real user: a program with set-user-ID is still who started it
            return _user_name(int(numbers[0])) if numbers and numbers[0].isdigit() else ""
    return ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name[:_NAME_LENGTH]
    except (KeyError, OverflowError):  # a container's users are not the host's
        return str(uid)


def _command(folder: Path) -> str:
    words = _read(folder / "cmdline").decode(errors="replace").replace("\0", " ").strip()
    if not words:  # a kernel thread, or a process that has just ended
        words = _read(folder / "comm").decode(errors="replace").strip()
    return "".join(letter if letter.isprintable() else " " for letter in words[:COMMAND_LENGTH])


def container_of(groups: str) -> str:
    """Return the container out of the text of `/proc/<pid>/cgroup`, "" where the process is in none."""
    for line in groups.splitlines():
        path = line.partition(":")[2].partition(":")[2]
        found = list(_CONTAINER_ID.finditer(path))
        if found:
            pod = list(_POD.finditer(path, 0, found[-1].start() + 1))
            uid = f" pod:{pod[-1]['uid'].replace('_', '-')}" if pod else ""
            return f"{_runtime(path, found[-1])}:{found[-1]['id'][:_SHORT_ID]}{uid}"
        if lxc := _LXC.search(path):
            return f"lxc:{lxc['name']}"[:_NAME_LENGTH]
    return ""


def _runtime(path: str, container: re.Match[str]) -> str:
    named = _RUNTIMES.get(container["prefix"] or "")
    if named:
        return named
    folders = path[: container.start()]
    return next((runtime for folder, runtime in _RUNTIME_FOLDERS if folder in folders), "container")


def slurm_job_of(groups: str) -> str:
    """Return the job's number out of the text of `/proc/<pid>/cgroup`, "" where Slurm put the process in none."""
    for line in groups.splitlines():
        if found := _SLURM_JOB.search(line):
            return found["job"]
    return ""


def _slurm_variable(folder: Path) -> str:
    """Return the job's number as Slurm left it to the process, where this user may read it."""
    found = _SLURM_VARIABLE.search(_read(folder / "environ", _ENVIRONMENT_BYTES))
    return found["job"].decode() if found else ""
