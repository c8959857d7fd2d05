"""What an agent tells the server besides telemetry: an order that it refused, a driver that it let go of. No Django.

Written on the host (orders, driver control), sent in a signed envelope to NOTICE_TASK, and turned into events by the server.
"""

import re
from dataclasses import asdict, dataclass
from enum import StrEnum

import msgpack

from telemetry.message.wire import HOST_NAME, LATEST_MS, MessageInvalid, integer, matching, read_message, text

VERSION = 1
NOTICE_TASK = "telemetry.ingest_notice"
_MAX_BYTES = 10_000
MOST_AT_ONCE = 1_000_000
_ID = re.compile(r"[0-9a-f]{32}")


class NoticeKind(StrEnum):
    """Values of fleet.models.EventKind."""

    DRIVER_RELEASED = "driver_released"
    DRIVER_RESUMED = "driver_resumed"
    FORGED_ORDER = "forged_order"
    REPLAYED_ORDER = "replayed_order"
    ORDER_REFUSED = "order_refused"  # of the server, but expired, or not to be noted: clocks, a full disk


@dataclass(frozen=True, slots=True)
class Notice:
    """`id` (32 hex digits) names it for ever: one that comes twice counts once. `at_ms` is the host's UTC milliseconds.

    `count` is of how many equal things it tells at once.
    """

    id: str
    host: str
    kind: NoticeKind
    at_ms: int
    text: str
    count: int = 1


def pack(notice: Notice) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, **asdict(notice)}))


def unpack(body: bytes) -> Notice:
    """Return the notice. Raises MessageInvalid."""
    message = read_message(body, _MAX_BYTES)
    if message.get("v") != VERSION:
        raise MessageInvalid(f"v: expected a notice of version {VERSION}, found {message.get('v')!r}")
    if message.get("kind") not in list(NoticeKind):
        raise MessageInvalid(f"kind: {message.get('kind')!r} is no kind of notice")
    at_ms = integer(message.get("at_ms"), "at_ms")
    if at_ms > LATEST_MS:
        raise MessageInvalid("at_ms: expected a time before the year 10000")
    count = integer(message.get("count", 1), "count")  # an agent of before names none
    if not 1 <= count <= MOST_AT_ONCE:
        raise MessageInvalid(f"count: expected 1 to {MOST_AT_ONCE}")
    return Notice(
        id=matching(message, "id", _ID),
        host=matching(message, "host", HOST_NAME),
        kind=NoticeKind(message["kind"]),
        at_ms=at_ms,
        text=text(message.get("text"), "text"),
        count=count,
    )
