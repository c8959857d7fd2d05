"""From the step listener's datagrams to blocks for the server. Called by the listener, and by the batcher for each batch.

Anybody on this host may write to the socket: what is no step is counted, said once a minute, and left out. No Django.
"""

import grp
import json
import logging
import pwd
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock

from telemetry.agent.steps import Frame, Moment
from training.steps import block as step_block
from training.steps import datagram
from training.steps.block import TICK_NS, UNTOLD
from training.steps.datagram import MAX_PHASES, DatagramInvalid, Record

logger = logging.getLogger(__name__)

MAX_HELD = 200_000  # steps that wait for a batch: 100 s of 2,000 a second
MAX_PROCESSES = 512  # that tell within one batch: what a flood of made-up names can come to
COMPLAIN_SECONDS = 60.0
_LATEST_NS = 60 * 10**9  # a step that ended longer ago than this, or after now, was timed on another clock
_MAX_HEADERS = 4_096
_PHASE = re.compile(r"[A-Za-z0-9_. /-]{1,40}")
_STEP_BYTES = 80  # at most, of a step without phases in a block
_PHASE_BYTES = 9


class _Process:
    """What waits of one process: its header's bytes, who it is, and its steps by column."""

    def __init__(self, head: bytes, frame: Frame, n_phases: int) -> None:
        self.head, self.n_phases = head, n_phases
        self.sender = (frame.pid, _user(frame.uid), _group(frame.gid))
        self.rows: list[tuple[int, Record]] = []  # with the end in UTC microseconds

    def block(self, most: int) -> bytes:
        """Take the first steps, at most so many, and return them as a block."""
        rows, self.rows = self.rows[:most], self.rows[most:]
        columns = [
            [record.sequence for _, record in rows],
            [record.dropped for _, record in rows],
            [record.number for _, record in rows],
            [ended_us for ended_us, _ in rows],
            [_ticks(record.nanoseconds) or 1 for _, record in rows],
            [_ticks(record.compute_ns) for _, record in rows],
            [record.kind for _, record in rows],
            [record.flags for _, record in rows],
        ]
        numbers: list[list[float]] = [[getattr(record, name) for _, record in rows] for name in step_block.NUMBERS]
        phases = [[_ticks(record.phases_ns[place]) for _, record in rows] for place in range(self.n_phases)]
        return step_block.pack(self.head, self.sender, columns, numbers, phases)


class StepHold:
    """Keeps steps until a batch takes them. `invalid` counts datagrams that were none, `n_dropped` steps that had no room."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._complained_at = -COMPLAIN_SECONDS
        self._lock = Lock()  # the listener's thread puts in, the batcher's takes out
        self._held: dict[tuple[bytes, int, int, int], _Process] = {}
        self._n_held = 0
        self.invalid = self.n_dropped = 0

    def put(self, frames: Sequence[Frame], moment: Moment) -> int:
        """Keep the steps of these datagrams; returns how many were refused."""
        refused = 0
        with self._lock:
            for frame in frames:
                try:
                    self._put(frame, moment)
                except DatagramInvalid as error:
                    refused += 1
                    self._complain(str(error))
        return refused

    def take(self, max_bytes: int) -> list[bytes]:
        """Return what waits as blocks of so many bytes at most in all; the rest waits on."""
        blocks: list[bytes] = []
        with self._lock:
            while self._held and max_bytes > 0:
                key, process = next(iter(self._held.items()))
                size = _STEP_BYTES + _PHASE_BYTES * process.n_phases
                room = (max_bytes - len(process.head)) // size
                if room <= 0:
                    break
                self._n_held -= min(room, len(process.rows))
                blocks.append(process.block(room))
                max_bytes -= len(blocks[-1])
                if not process.rows:
                    del self._held[key]
        return blocks

    def _put(self, frame: Frame, moment: Moment) -> None:
        head, raw = datagram.split(frame.raw)
        n_phases = _n_phases(head)
        record = datagram.read_record(raw, n_phases)
        if self._n_held >= MAX_HELD:
            self.n_dropped += 1
            raise DatagramInvalid(f"{MAX_HELD} steps wait for a batch: there is no room for more")
        key = (head, frame.pid, frame.uid, frame.gid)
        process = self._held.get(key)
        if process is None:
            if len(self._held) >= MAX_PROCESSES:
                raise DatagramInvalid(f"{MAX_PROCESSES} processes told of steps since the last batch")
            process = self._held[key] = _Process(head, frame, n_phases)
        process.rows.append((_utc_us(record.ended_ns, moment), record))
        self._n_held += 1

    def _complain(self, error: str) -> None:
        self.invalid += 1
        now = self._monotonic()
        if now - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = now
            logger.warning("a step frame was left out (%d so far): %s", self.invalid, error)


def _utc_us(ended_ns: int, moment: Moment) -> int:
    """Return when it ended: by the wall clock of now, as the batch's own times are, also after it was set.

    A clock that is not this host's, as in a time namespace, cannot be compared: there it ended when it came.
    """
    ago_ns = moment.monotonic_ns - ended_ns
    return (moment.utc_ns - (ago_ns if 0 <= ago_ns <= _LATEST_NS else 0)) // 1000


def _ticks(nanoseconds: int) -> int:
    return UNTOLD if nanoseconds < 0 else (nanoseconds + TICK_NS // 2) // TICK_NS


@lru_cache(maxsize=_MAX_HEADERS)
def _n_phases(head: bytes) -> int:
    """Return how many phases the header names; what else it says is the server's to judge. Raises DatagramInvalid."""
    try:
        told = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise DatagramInvalid(f"header: no JSON ({type(error).__name__})") from error
    if not isinstance(told, dict) or told.get("v") != datagram.VERSION:
        version = told.get("v") if isinstance(told, dict) else None
        raise DatagramInvalid(f"v: expected {datagram.VERSION}, found {str(version)[:20]!r}")
    phases = told.get("phases", [])
    if not isinstance(phases, list) or len(phases) > MAX_PHASES:
        raise DatagramInvalid(f"phases: expected a list of at most {MAX_PHASES}")
    if not all(isinstance(name, str) and _PHASE.fullmatch(name) for name in phases) or len(set(phases)) < len(phases):
        raise DatagramInvalid(f"phases: expected different names that match {_PHASE.pattern}")
    return len(phases)


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    """Return the user's name, as the hosts of a cluster share it; one that this host does not know has its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@lru_cache(maxsize=256)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
