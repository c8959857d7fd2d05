"""What the server tells a host of its batches: which are stored, and a sample of both clocks. Signed as an order; no Django.

Sent by the server's task, read by the agent, which empties its spool by it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from telemetry.message.fields import MessageInvalid, integer, matching, read_message

ACKNOWLEDGE_TASK = "telemetry.acknowledge"
MAX_RANGES = 1_000
MAX_BYTES = 32_768
_EPOCH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`ranges` are the stored sequences of the epoch, ends included, ascending; of more than MAX_RANGES the newest.

    The times are UTC milliseconds: `sent_ms` when the newest of the batches was made, by the host's clock, `received_ms`
    when the server had it, and `server_ms` when the server made this, both by its own.
    """

    epoch: str
    ranges: Sequence[tuple[int, int]]
    sent_ms: int
    received_ms: int
    server_ms: int


def pack(told: Acknowledgement) -> bytes:
    ranges = [list(each) for each in told.ranges[-MAX_RANGES:]]
    return bytes(
        msgpack.packb(
            {
                "epoch": told.epoch, "ranges": ranges,
                "sent": told.sent_ms, "received": told.received_ms, "server": told.server_ms,
            }
        )
    )  # fmt: skip


def unpack(payload: bytes) -> Acknowledgement:
    """Raises MessageInvalid."""
    message = read_message(payload, MAX_BYTES)
    return Acknowledgement(
        epoch=matching(message, "epoch", _EPOCH),
        ranges=_ranges(message.get("ranges")),
        sent_ms=integer(message.get("sent"), "sent"),
        received_ms=integer(message.get("received"), "received"),
        server_ms=integer(message.get("server"), "server"),
    )


def _ranges(rows: Any) -> list[tuple[int, int]]:
    if not isinstance(rows, list) or len(rows) > MAX_RANGES:
        raise MessageInvalid(f"ranges: expected a list of at most {MAX_RANGES}")
    ranges, before = [], -1
    for row in rows:
        if not isinstance(row, list) or len(row) != 2:
            raise MessageInvalid("ranges: expected [first, last]")
        first, last = integer(row[0], "ranges"), integer(row[1], "ranges")
        if not before < first <= last:
            raise MessageInvalid("ranges: expected them in ascending order")
        ranges.append((first, last))
        before = last
    return ranges
