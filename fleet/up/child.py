"""One child process: what to start, its life in a session of its own, and its lines of output.

Called by the supervisor; imports nothing of Django. Linux: the kernel ends a child whose supervisor is gone.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_PIPE_BYTES = _LINE_LIMIT_BYTES = 65_536  # pipe(7)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Child:
    """What to start.

    `environment` is whole, not added to the supervisor's. `stdin` is written at start, then closed.
    `ends_last` keeps a child until every other has ended: the broker, which the others say good-bye to.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    stdin: bytes = b""
    ends_last: bool = False


def adopt_orphans() -> None:
    """Make the calling process the parent of every orphan below it, so that no descendant slips away."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _end_with_parent(parent_pid: int) -> Callable[[], None]:
    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the kernel was told: no signal will come
            os._exit(1)

    return in_child


class Process:
    """A running child. Raises OSError where it cannot be started."""

    def __init__(self, child: Child) -> None:
        self._popen = subprocess.Popen(
            child.argv,
            cwd=child.directory,
            env=dict(child.environment),
            stdin=subprocess.PIPE if child.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the terminal reaches the supervisor alone
            preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509  the supervisor has one thread
        )
        self.pid = self._popen.pid
        self.output: IO[bytes] = _not_none(self._popen.stdout)
        os.set_blocking(self.output.fileno(), False)
        self.output_ended = False
        self._tail = b""
        if self._popen.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has ended: its status and its lines tell why
                self._popen.stdin.write(child.stdin)
                self._popen.stdin.close()

    def read_lines(self) -> list[bytes]:
        """Return the lines that came since the last call, without their ends.

        An unfinished line waits for its rest. Reads once, at most what a pipe holds. `output_ended` tells
        that nothing will follow.
        """
        try:
            data = os.read(self.output.fileno(), _PIPE_BYTES)
        except BlockingIOError:
            return []
        self.output_ended = not data
        *lines, self._tail = (self._tail + data).split(b"\n")
        if self._tail and (self.output_ended or len(self._tail) > _LINE_LIMIT_BYTES):
            lines.append(self._tail)
            self._tail = b""
        return lines

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the child and whatever it started in its own process group; nobody once it is reaped.

        Its number may be another group's by then.
        """
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Send one SIGTERM to the child alone: what it started is its own to end."""
        self._popen.terminate()

    def reap(self) -> tuple[int, list[bytes]]:
        """Return the ended child's exit status (negative: the signal) and its last lines.

        Kills what it left behind in its group. Called while the child is a zombie: its process id still
        names its group and nothing else.
        """
        self.signal_group(signal.SIGKILL)
        status = self._popen.wait()
        lines = self.read_lines()
        if self._tail:
            lines.append(self._tail)
        self.output.close()
        return status, lines


def _not_none(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  Popen promises it for stdout=PIPE
    return stream
