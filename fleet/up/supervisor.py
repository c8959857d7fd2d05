"""Starts children, shows their output as one stream, restarts those that end, and stops all of them.

Called by `manage.py up`; imports nothing of Django. One thread, no polling at rest. Own code, as honcho
does not restart, circus brings tornado and zmq, and neither ends the children when it is itself killed.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from selectors import EVENT_READ, DefaultSelector
from types import FrameType, TracebackType
from typing import BinaryIO, Self

import psutil

from fleet.up.child import Child, Process, adopt_orphans

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 15.0
STEADY_SECONDS = 30.0  # a child that ran this long was well: its next restart is quick again
STOP_SECONDS, STOP_LAST_SECONDS, KILL_SECONDS = 7.0, 2.0, 1.0  # together the longest a stop can take
_POLL_SECONDS = 0.05
_COLOURS = (36, 32, 33, 35, 34, 31)  # ECMA-48 foreground colours


def delay_after(previous_seconds: float, ran_seconds: float) -> float:
    """Return how long to wait before the next start of a child that ended after `ran_seconds`."""
    if ran_seconds >= STEADY_SECONDS or not previous_seconds:
        return FIRST_DELAY_SECONDS
    return min(previous_seconds * 2, LONGEST_DELAY_SECONDS)


class Console:
    """Writes lines to one stream, each with the time and its speaker's name (coloured on a terminal)."""

    def __init__(self, stream: BinaryIO, names: Sequence[str]) -> None:
        self.lost = False  # the reader has gone (a closed pipe or terminal)
        self._stream = stream
        self._labels = {name: name.ljust(max(map(len, names))) for name in names}
        if stream.isatty() and "NO_COLOR" not in os.environ:
            for number, name in enumerate(names):
                self._labels[name] = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{self._labels[name]}\x1b[0m"

    def write(self, name: str, lines: Sequence[bytes]) -> None:
        if self.lost or not lines:
            return
        start = f"{datetime.now().astimezone():%H:%M:%S} {self._labels[name]} | ".encode()
        try:
            self._stream.write(b"".join(start + line + b"\n" for line in lines))
            self._stream.flush()
        except OSError:
            self.lost = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what is still buffered


@dataclass(eq=False, slots=True)
class _Ward:
    """A child under watch: running (`process`), or waiting for its next start (`start_at`, monotonic)."""

    child: Child
    process: Process | None = None
    started_at: float = 0.0
    start_at: float | None = None
    delay_seconds: float = 0.0


class Supervisor:
    """A context: on the way out every process that came below it inside has ended, whatever happened."""

    def __init__(self, console: Console, own_name: str, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._console, self._own_name, self._stop_seconds = console, own_name, stop_seconds
        self._wards: list[_Ward] = []
        self._selector = DefaultSelector()
        self._stop_asked = self._stopping = False
        self._not_ours: list[psutil.Process] = []

    def __enter__(self) -> Self:
        adopt_orphans()
        self._not_ours = psutil.Process().children()  # a bench may run in a process that has children of its own
        self._wake, self._wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake, EVENT_READ)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)  # before the handlers: no signal is lost
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            numbers.append(signal.SIGHUP)
        self._handlers_before = {number: signal.signal(number, _noted_by_wakeup) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._selector.close()
        os.close(self._wake)
        os.close(self._wake_end)

    def start(self, child: Child) -> None:
        ward = _Ward(child)
        self._wards.append(ward)
        self._start(ward, time.monotonic())

    def say(self, text: str) -> None:
        self._console.write(self._own_name, [line.encode() for line in text.splitlines()])

    def is_running(self, name: str) -> bool:
        return any(ward.process is not None for ward in self._wards if ward.child.name == name)

    @property
    def stop_asked(self) -> bool:
        return self._stop_asked or self._console.lost

    def run(self) -> None:
        """Watch the children until a signal asks to stop, or nobody reads the output any more."""
        while not self.stop_asked:
            self._step(self._until_next_start(time.monotonic()))

    def run_until(self, condition: Callable[[], bool], *, within_seconds: float) -> bool:
        """Watch the children until the condition holds; False where time is up or a stop was asked first."""
        deadline = time.monotonic() + within_seconds
        while not self.stop_asked and time.monotonic() < deadline:
            if condition():
                return True
            self._step(_POLL_SECONDS)
        return False

    # One turn of the loop -----------------------------------------------------------------------------------

    def _step(self, timeout_seconds: float | None) -> None:
        for key, _ in self._selector.select(timeout_seconds):
            if key.data is None:
                self._take_signals()
            else:
                self._copy_output(key.data)
        now = time.monotonic()
        self._reap(now)
        if not self._stopping:
            for ward in self._wards:
                if ward.start_at is not None and ward.start_at <= now:
                    self._start(ward, now)

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if set(os.read(self._wake, 4096)) - {signal.SIGCHLD}:
                self._stop_asked = True

    def _until_next_start(self, now: float) -> float | None:
        times = [ward.start_at for ward in self._wards if ward.start_at is not None]
        return max(0.0, min(times) - now) if times else None

    def _copy_output(self, ward: _Ward) -> None:
        if ward.process:
            self._console.write(ward.child.name, ward.process.read_lines())
            if ward.process.output_ended:
                self._selector.unregister(ward.process.output)

    # Lives of children --------------------------------------------------------------------------------------

    def _start(self, ward: _Ward, now: float) -> None:
        ward.started_at, ward.start_at = now, None
        try:
            ward.process = Process(ward.child)
        except OSError as error:
            self._restart_later(ward, f"cannot be started ({error})", now)
            return
        self._selector.register(ward.process.output, EVENT_READ, ward)

    def _reap(self, now: float) -> None:
        while (pid := _ended_pid()) is not None:
            for ward in self._wards:
                if ward.process and ward.process.pid == pid:
                    self._on_end(ward, ward.process, now)
                    break
            else:
                os.waitpid(pid, 0)  # an orphan that became ours

    def _on_end(self, ward: _Ward, process: Process, now: float) -> None:
        if not process.output_ended:
            self._selector.unregister(process.output)
        status, lines = process.reap()
        ward.process = None
        self._console.write(ward.child.name, lines)
        if not self._stopping:
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            self._restart_later(ward, f"ended {how}", now)

    def _restart_later(self, ward: _Ward, reason: str, now: float) -> None:
        ward.delay_seconds = delay_after(ward.delay_seconds, now - ward.started_at)
        ward.start_at = now + ward.delay_seconds
        self.say(f"{ward.child.name} {reason}; it starts again in {ward.delay_seconds:g} s")

    # The end ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """End everything: 1. all but the last, 2. the last (the broker), 3. whatever descendants are left."""
        self._stopping = True
        running = [ward for ward in reversed(self._wards) if ward.process]
        self._end([ward for ward in running if not ward.child.ends_last], self._stop_seconds)
        self._end([ward for ward in running if ward.child.ends_last], STOP_LAST_SECONDS)
        self._wait_for(lambda: _kill_descendants(self._not_ours), KILL_SECONDS)

    def _end(self, wards: list[_Ward], within_seconds: float) -> None:
        for ward in wards:
            if ward.process:
                ward.process.terminate()
        self._wait_for(lambda: all(ward.process is None for ward in wards), within_seconds)
        for ward in wards:
            if ward.process:
                self.say(f"{ward.child.name} did not stop within {within_seconds:g} s and is killed")
                ward.process.signal_group(signal.SIGKILL)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            self._step(min(left, _POLL_SECONDS))


def _kill_descendants(spared: Sequence[psutil.Process]) -> bool:
    """Kill whatever runs below this process, in any session, but for the spared and theirs; True once nothing is left."""
    left = [child for child in psutil.Process().children() if child not in spared]
    for process in [each for child in left for each in (child, *_below(child))]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return not left


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _ended_pid() -> int | None:
    """Return the process id of a child that has ended, without reaping it."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended else None


def _noted_by_wakeup(number: int, frame: FrameType | None) -> None:
    """A handler must stand for the interpreter to write the signal's number into the wake-up pipe."""
