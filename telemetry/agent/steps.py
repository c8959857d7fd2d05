"""The step listener: a local datagram socket on which training loops leave their step timings.

It trusts nothing that it receives: datagrams are bounded, come with what the kernel says of their sender, and are handed on
as bytes. What they mean is known to the extension that registered a handler (the upper package).
"""

import logging
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 8_192
MAX_FRAMES = 2_000  # handed on at a time
SHORTEST_NAP_SECONDS, FIRST_NAP_SECONDS, LONGEST_NAP_SECONDS = 0.001, 0.05, 0.5
QUIET_SECONDS = 1.0  # without a datagram: then the next one wakes the thread
_RECEIVE_BUFFER_BYTES = 4 << 20
_CREDENTIALS = struct.Struct("3i")  # unix(7), struct ucred: pid, uid, gid
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size)
_FEWEST_KEPT = 10
_KEPT_DATAGRAMS = Path("/proc/sys/net/unix/max_dgram_qlen")


class Frame(NamedTuple):
    """A datagram, and whose process sent it; the kernel vouches for the numbers. A process of another namespace has pid 0."""

    raw: bytes
    pid: int
    uid: int
    gid: int


class Moment(NamedTuple):
    """One moment on both clocks, in nanoseconds: CLOCK_MONOTONIC, which the senders read too, and UTC."""

    monotonic_ns: int
    utc_ns: int

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.monotonic_ns(), time.time_ns())


Handler = Callable[[Sequence[Frame], Moment], int]


class StepListener:
    """Runs on a thread of its own that sleeps while nobody trains. `refused` counts datagrams that were not understood."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handlers: list[Handler] = []
        self.refused = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
        self._ending = threading.Event()
        self._room = _kept_datagrams()
        self._nap = FIRST_NAP_SECONDS
        self._heard = -math.inf

    def register(self, handler: Handler) -> None:
        """Have the handler get the frames, in their order; it returns how many it refused."""
        self._handlers.append(handler)

    def start(self) -> None:
        """Bind the socket. A leftover of a killed agent is removed first; only one agent runs per directory (its lock).

        Any process of the host may write to it, also out of a container that has its directory: who it is, is seen.
        """
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(parents=True)
            self._path.parent.chmod(0o755)
        self._path.unlink(missing_ok=True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """Take no more, and hand on what has come."""
        self._path.unlink(missing_ok=True)
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RD)  # nothing comes after it, so the thread, which ends next, takes all
            self._ending.set()
            self._thread.join(timeout=2)
        self._socket.close()

    def _run(self) -> None:
        while frames := self._gather():
            moment = Moment.now()
            for handler in self._handlers:
                try:
                    self.refused += handler(frames, moment)
                except Exception:  # the outermost loop of this thread: these frames are lost and said so
                    logger.exception("%d step frames could not be handled", len(frames))

    def _gather(self) -> list[Frame]:
        """Return the next datagrams, as many as there are; none once the end has come and all are taken.

        While they come, the thread naps between two looks instead of waiting in the call: to wake it would cost the
        training loop more than all else of its step, and each look takes time from a training that has all cores. The naps
        become as long as the kernel's queue has room, which is that of 10 datagrams where net.unix.max_dgram_qlen was never
        raised; a client keeps what finds none.
        """
        while not (frames := self._take()):
            if self._ending.is_set():
                return self._take()
            if time.monotonic() - self._heard < QUIET_SECONDS:
                self._ending.wait(self._nap)
            else:
                self._socket.setblocking(True)
                frames = self._take(1)
                self._socket.setblocking(False)
                self._nap = FIRST_NAP_SECONDS
                if frames:
                    break
        self._heard = time.monotonic()
        self._pace(len(frames))
        return frames

    def _pace(self, n_frames: int) -> None:
        if n_frames > self._room / 2:
            self._nap = max(SHORTEST_NAP_SECONDS, self._nap / 2)
        elif n_frames < self._room / 4:
            self._nap = min(LONGEST_NAP_SECONDS, self._nap * 1.25)

    def _take(self, most: int = MAX_FRAMES) -> list[Frame]:
        """Return the datagrams that are there; a socket that blocks is waited for."""
        frames: list[Frame] = []
        while len(frames) < most:
            try:
                raw, ancillary, flags, _ = self._socket.recvmsg(MAX_FRAME_BYTES, _ANCILLARY_BYTES)
            except OSError:  # there is none, or the socket is closed
                break
            sender = _credentials(ancillary)
            if not raw:  # by shutdown, or an empty one
                break
            if flags & socket.MSG_TRUNC or sender is None:
                self.refused += 1
            else:
                frames.append(Frame(raw, *sender))
        return frames


def _credentials(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, int, int] | None:
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(content) >= _CREDENTIALS.size:
            pid, uid, gid = _CREDENTIALS.unpack_from(content)
            return pid, uid, gid
    return None


def _kept_datagrams() -> int:
    """Return how many datagrams the kernel keeps for a socket (unix(7))."""
    try:
        return int(_KEPT_DATAGRAMS.read_text())
    except (OSError, ValueError):
        return _FEWEST_KEPT
