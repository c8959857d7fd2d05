"""The name of a batch that does not fit: enough to keep it, and to tell its agent so. Called by the ingest. No Django.

An agent that hears nothing of a batch sends it again, and keeps it meanwhile.
"""

import zstandard

from telemetry.decoding.received import READ_VERSIONS
from telemetry.message.batch import Batch
from telemetry.message.fields import HOST_NAME, MessageInvalid, integer, matching, raw, read_message
from telemetry.message.header import LATEST_MS
from telemetry.message.wire import MAX_BYTES

_MAX_HEAD_BYTES = 2_000_000


def named(payload: bytes) -> Batch:
    """Return the batch with its name and one time alone: its first tick, or when it was sent where that cannot be read.

    Raises MessageInvalid where it has no name, and where it is of a version that another server may read.
    """
    message = read_message(payload, MAX_BYTES)
    packed = message.get("head")
    if message.get("v") not in READ_VERSIONS or not isinstance(packed, bytes):
        raise MessageInvalid("head: expected one of a version that is read")
    try:
        if not 0 <= zstandard.get_frame_parameters(packed).content_size <= _MAX_HEAD_BYTES:
            raise MessageInvalid(f"head: expected at most {_MAX_HEAD_BYTES} bytes")
        head = read_message(zstandard.ZstdDecompressor().decompress(packed), _MAX_HEAD_BYTES)
    except zstandard.ZstdError as error:
        raise MessageInvalid(f"head: cannot be decompressed ({error})") from error
    sent_ms = _moment(head.get("sent"), "sent")
    return Batch(
        host=matching(head, "host", HOST_NAME),
        epoch=raw(head.get("epoch"), "epoch", 16).hex(),
        sequence=integer(head.get("seq"), "seq"),
        segment=0,
        sent_ms=sent_ms,
        times_ms=[_first_ms(head.get("times"), sent_ms)],
        devices=[],
        columns={},
    )


def _first_ms(times: object, sent_ms: int) -> int:
    try:
        return _moment(times[0], "times") if isinstance(times, list) and times else sent_ms
    except MessageInvalid:
        return sent_ms


def _moment(value: object, name: str) -> int:
    milliseconds = integer(value, name)
    if milliseconds > LATEST_MS:
        raise MessageInvalid(f"{name}: expected a time before the year 10000")
    return milliseconds
