"""A step as a training loop tells it to the agent of its host: one datagram. No Django, no dependency.

A datagram is the process's header, a JSON object that is the same bytes each time; a line feed; and the record of the step,
of fixed length: RECORD, then a duration for each phase that the header names. Written by the client (which has this form in
a copy of its own, training/client/stepwatt/wire.py) and by the reference jobs; read by the agent (host/steps.py).
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

VERSION = 2
MAX_BYTES = 8_192
MAX_PHASES = 32
WARM_UP = 1
UNTOLD_NS = -1  # a duration that is not told; a number that is not told is NaN
# sequence, dropped, number, ended_ns, nanoseconds, compute_ns, samples, tokens, loss, kind, flags
RECORD = struct.Struct("<QQQqqqdddBB")
_LONGEST = 2**62


class DatagramInvalid(ValueError):
    """The bytes are no step; the text says why."""


class Record(NamedTuple):
    """A step, or another stretch of time; durations in nanoseconds, `ended_ns` on the host's CLOCK_MONOTONIC.

    `sequence` counts the records of a process from 0, `dropped` those of them that it could not send. `phases_ns` are in
    the header's order.
    """

    sequence: int
    dropped: int
    number: int
    ended_ns: int
    nanoseconds: int
    compute_ns: int
    samples: float
    tokens: float
    loss: float
    kind: int
    flags: int
    phases_ns: Sequence[int] = ()


def put(head: Mapping[str, Any], record: Record) -> bytes:
    """Return the datagram; `head` has no "v" and may name "phases"."""
    return put_head(head) + put_record(record)


def put_head(head: Mapping[str, Any]) -> bytes:
    """Return what stands before the record, the same for all steps of a process."""
    return json.dumps({"v": VERSION, **head}, separators=(",", ":")).encode() + b"\n"


def read(raw: bytes) -> tuple[dict[str, Any], Record]:
    """Return the header, which nobody has checked, and the record. Raises DatagramInvalid."""
    header, record = split(raw)
    head: dict[str, Any] = json.loads(header)
    return head, read_record(record, len(head.get("phases", [])))


def put_record(record: Record) -> bytes:
    n_phases = len(record.phases_ns)
    return RECORD.pack(*record[:-1]) + struct.pack(f"<{n_phases}q", *record.phases_ns)


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Return (header, record). Raises DatagramInvalid."""
    header, line_feed, record = raw.partition(b"\n")
    if not line_feed:
        raise DatagramInvalid("record: there is none")
    return header, record


def read_record(raw: bytes, n_phases: int) -> Record:
    """Return the record, its numbers within what can be. Raises DatagramInvalid."""
    if len(raw) != RECORD.size + 8 * n_phases:
        raise DatagramInvalid(f"record: expected {RECORD.size + 8 * n_phases} bytes, found {len(raw)}")
    record = Record._make((*RECORD.unpack_from(raw), struct.unpack_from(f"<{n_phases}q", raw, RECORD.size)))
    if max(record.sequence, record.dropped, record.number) >= _LONGEST:
        raise DatagramInvalid("record: a number of 2**62 or more")
    if record.nanoseconds <= 0 or max(record.nanoseconds, record.compute_ns, *record.phases_ns) >= _LONGEST:
        raise DatagramInvalid("record: a duration that cannot be")
    return record
