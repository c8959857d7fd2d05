"""The process of a job: how it is started, watched and ended. Called by a job's thread; no Django, no torch.

The process asks the kernel to die with the thread that started it, so that thread must outlive it.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

START = Path(__file__).resolve().parents[1] / "reference" / "start.py"
# What a job may know of the agent's environment: enough to find programs and libraries, and no secret.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "XDG_CACHE_HOME",
)


class JobProcess:
    """A started job in a session of its own. `events` and `output` are the reading ends of its pipes, non-blocking."""

    def __init__(
        self,
        python: str,
        order: Mapping[str, Any],
        directory: Path,
        *,
        handed: Sequence[int] = (),
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start the job on the interpreter `python`, with open descriptors `handed` on and `extra` in its environment.

        Raises OSError where it cannot be started.
        """
        self.events, events_end = os.pipe()
        self.output, output_end = os.pipe()
        command = [python, str(START), "--parent", str(os.getpid()), "--events-fd", str(events_end)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output_end,
                stderr=output_end,
                cwd=directory,
                env=environment(order["device_kind"], order["device_uuid"], os.environ) | dict(extra),
                pass_fds=[events_end, *handed],
                start_new_session=True,
            )
        except OSError:
            self.close()
            raise
        finally:
            os.close(events_end)
            os.close(output_end)
        self.pid = self._process.pid
        self.started_ticks = started_ticks(self.pid)
        for descriptor in (self.events, self.output):
            os.set_blocking(descriptor, False)
        self._hand_over(order)

    def _hand_over(self, order: Mapping[str, Any]) -> None:
        if self._process.stdin is None:
            raise ValueError("the job's standard input is no pipe")
        with contextlib.suppress(BrokenPipeError):  # it ended already: its exit status and log say why
            self._process.stdin.write(json.dumps(dict(order)).encode())
            self._process.stdin.close()

    def has_ended(self) -> bool:
        """Say whether the process has exited, without forgetting it: its group's number stays taken until `reap`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and its group; nobody once it is reaped: its number may be another group's by then."""
        if self._process.returncode is None:
            signal_group(self.pid, number)

    def reap(self) -> int:
        """Kill what is left of the group, wait, and return the exit status; negative for a signal."""
        self.signal_group(signal.SIGKILL)
        return self._process.wait()

    def close(self) -> None:
        os.close(self.events)
        os.close(self.output)


def environment(device_kind: str, device_uuid: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a job's whole environment: it sees the ordered accelerator and no other.

    No PYTHONPATH and no other of Python's variables: what a job can import is its interpreter's own, and training.reference.
    """
    return {
        **{name: inherited[name] for name in _INHERITED if name in inherited},
        "PYTHONUNBUFFERED": "1",
        # Neither the job's directory nor the script's is a place to import from; -P says so too, but an older Python, which
        # is to say that it is too old, would not start with it.
        "PYTHONSAFEPATH": "1",
        "CUDA_VISIBLE_DEVICES": device_uuid if device_kind == "nvidia" else "",
        # Threads that spin at a barrier while another process has their core make a CPU's steps ten times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def signal_group(leader_pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(leader_pid, number)


def started_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where there is none. Names it beyond its pid's reuse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name in brackets may hold anything
