"""Containers by the kernel's own means: namespaces and another root, with no more of the host than a runtime gives.

What is in one has its own mounts, processes, IPC, host name, control groups and network, which is none at all; it sees the
host's programs and the client's wheel, read-only, and the mounts that its test names.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import psutil
import pytest

from telemetry import wheels
from tests.process.traces import wait_until
from tests.programs import require

CLIENT = "/opt/client"
FIRST_OF_MANY = 100_000  # on the host, the user 0 of a container with users of its own
_PROGRAMS = ("/usr", "/etc/ld.so.cache", sys.base_prefix)
_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_OWN = "--mount --pid --ipc --uts --net --cgroup --fork --kill-child --mount-proc --root=."


@dataclass(frozen=True)
class Container:
    """As whom its program runs, and what it sees. With `has_own_users` its users are others than the host's.

    `mounts` are (on the host, in the container, "ro" or "rw").
    """

    uid: int = 0
    gid: int = 0
    groups: Sequence[int] = ()
    has_own_users: bool = False
    mounts: Sequence[tuple[Path, str, str]] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, root: Path, program: str) -> Iterator["Inside"]:
        """Run a Python program in it, on an empty directory as its root. Skips where that is not allowed; fails where CI=true."""
        unshare = require("unshare")
        _require_root()
        _furnish(root)
        script = "\n".join([*self._mounting(root), f"exec {unshare} {self._namespaces} -- sh -c {self._entering}"])
        command = [unshare, "--mount", "--propagation", "private", "sh", "-euc", script, "sh", sys.executable, program]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": CLIENT, **self.variables}
        process = subprocess.Popen(
            command, cwd=root, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        inside = Inside(process)
        try:
            self._let_in(inside)
            yield inside
        finally:
            inside.end()

    @property
    def _namespaces(self) -> str:
        return f"{_OWN} --user --keep-caps" if self.has_own_users else _OWN

    @property
    def _entering(self) -> str:
        """Wait until the container's users are told, then become the one as whom the program runs."""
        groups = f"--groups {','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        python = shlex.quote(str(Path(sys.executable).resolve()))
        user = f"--reuid {self.uid} --regid {self.gid} {groups}"
        return shlex.quote(f'read -r go; exec setpriv {user} {python} -u -c "$1"') + ' sh "$2"'

    def _mounting(self, root: Path) -> Iterator[str]:
        given = [(Path(path), path, "ro") for path in _PROGRAMS if Path(path).exists()]
        for source, target, how in (*given, *self.mounts):
            place = root / target.lstrip("/")
            if source.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            yield f"mount --bind -o {how} {shlex.quote(str(source))} {shlex.quote(str(place))}"

    def _let_in(self, inside: "Inside") -> None:
        """Say which of the host's users the container's are, as a runtime's daemon does, and let the program begin."""
        inside.wait_for_namespaces()
        if self.has_own_users:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{inside.pid}/{name}").write_text(f"0 {FIRST_OF_MANY} 65536")
        inside.tell("go")


class Inside:
    """The program in a container. `pid` is the host's number for it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._first: psutil.Process | None = None

    @property
    def pid(self) -> int:
        assert self._first is not None
        return self._first.pid

    def wait_for_namespaces(self) -> None:
        wait_until(self._has_begun, 180, "the container")

    def _has_begun(self) -> bool:
        if self._process.poll() is not None:
            _, said = self._process.communicate()
            pytest.fail(f"no container (it needs root, and a kernel that lets it make namespaces): {said.strip()}")
        self._first = next(filter(_is_apart, psutil.Process(self._process.pid).children()), None)
        return self._first is not None

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Return the next line that the program says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate(timeout=60)
            pytest.fail(f"the program in the container ended: {said[-2000:]}")
        return line.strip()

    def end(self) -> None:
        """End all that is in it, by its first process: what changes its user is not told of its parent's end."""
        if self._first is not None and self._first.is_running():
            self._first.kill()
        self._process.kill()
        self._process.communicate(timeout=60)


def _is_apart(process: psutil.Process) -> bool:
    """Whether it has PIDs of its own: not a shell that is about to mount something."""
    try:
        return Path(f"/proc/{process.pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    except FileNotFoundError:
        return False


def _require_root() -> None:
    if os.geteuid() == 0:
        return
    reason = "containers need root, to say which users they have"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _furnish(root: Path) -> None:
    """Lay what every container has: a place for /proc, the host's links to its programs, and the client."""
    root.chmod(0o755)
    for name in ("proc", "tmp"):
        (root / name).mkdir()
    for name in _LINKS:
        if Path(name).is_symlink():
            (root / name.lstrip("/")).symlink_to(Path(name).readlink())
    with ZipFile(BytesIO(wheels.client_wheel().content)) as wheel:
        wheel.extractall(root / CLIENT.lstrip("/"))
