"""What nobody has signed yet may cost little: memory that an envelope takes before its signature is looked at."""

import tracemalloc

import msgpack
import pytest

from telemetry.message import envelope
from telemetry.message.wire import MessageInvalid


@pytest.mark.parametrize("part", [b"\x80", b"\x90", b"\x81\x01\x80"])
def test_four_megabytes_of_empty_parts_cost_no_more_than_they_are(part):
    n = 3_900_000 // len(part)
    payload = b"\x81\xa1x\xdd" + n.to_bytes(4, "big") + part * n
    tracemalloc.start()
    with pytest.raises(MessageInvalid):
        envelope.read(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


@pytest.mark.parametrize("inner", [{}, [], {"a": {}}, [[1]], msgpack.ExtType(1, b"x")])
def test_an_envelope_holds_plain_values_only(inner):
    whole = {"v": 1, "host": "gpu-a01", "body": b"", "nonce": b"", "expires": 0, "sig": b"", "more": inner}
    with pytest.raises(MessageInvalid, match="message"):
        envelope.read(msgpack.packb(whole))
