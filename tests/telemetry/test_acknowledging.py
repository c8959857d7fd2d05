"""Acknowledgements: what they say, whom they are believed, and what the clocks tell by them."""

import time
from dataclasses import replace

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.acknowledging import Acknowledging
from telemetry.agent.clock_offset import HOLDS_SECONDS, ClockOffset
from telemetry.agent.orders import FILE, OrderDesk
from telemetry.catalog import AbsentReason
from telemetry.message import acknowledgement
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, MAX_RANGES, Acknowledgement
from telemetry.message.envelope import seal, seal_order
from telemetry.message.fields import MessageInvalid

SERVER = Ed25519PrivateKey.from_private_bytes(bytes(32))
TOLD = Acknowledgement("e" * 32, [(0, 4), (7, 7)], 1_800_000_000_000, 1_800_000_000_100, 1_800_000_000_200)


def order(told=TOLD, *, key=SERVER, host="a", task=ACKNOWLEDGE_TASK, expires_ms=0):
    return seal_order(key, task, host, acknowledgement.pack(told), expires_ms)


@pytest.fixture
def desk(tmp_path):
    """Return what takes orders, and the ranges that it let go of."""
    let_go, notices = [], []
    orders = OrderDesk(tmp_path, "a", SERVER.public_key().public_bytes_raw(), notices.append)
    return Acknowledging(orders, lambda epoch, ranges: let_go.append((epoch, ranges)), ClockOffset()), let_go, notices


def test_what_the_server_signed_is_let_go_of(desk):
    acknowledging, let_go, _ = desk
    acknowledging.take_order(order())

    assert let_go == [(TOLD.epoch, TOLD.ranges)]


def test_it_may_come_twice_and_late_and_leaves_nothing_on_the_disk(desk, tmp_path):
    acknowledging, let_go, notices = desk
    for _ in range(2):
        acknowledging.take_order(order(expires_ms=1))

    assert len(let_go) == 2
    assert notices == []
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "payload",
    [
        order(key=Ed25519PrivateKey.generate()),
        order(host="b"),
        order(task="training.run_job"),
        seal(SERVER, ACKNOWLEDGE_TASK, "a", acknowledgement.pack(TOLD)),
        seal_order(SERVER, ACKNOWLEDGE_TASK, "a", b"\x80", 0),
        b"",
        None,
    ],
    ids=["another key", "another host", "another task", "no order", "no acknowledgement", "nothing", "none"],
)
def test_what_the_server_did_not_say_lets_go_of_nothing(desk, payload):
    acknowledging, let_go, _ = desk
    with pytest.raises(MessageInvalid):
        acknowledging.take_order(payload)

    assert let_go == []


@st.composite
def ascending(draw):
    bounds = sorted(draw(st.sets(st.integers(0, 2**40), max_size=40)))
    return list(zip(bounds[::2], bounds[1::2], strict=False))


@given(ascending())
def test_it_comes_back_as_it_was_packed(ranges):
    told = replace(TOLD, ranges=ranges)

    assert acknowledgement.unpack(acknowledgement.pack(told)) == told


def test_of_too_many_ranges_the_newest_are_told():
    ranges = [(number, number) for number in range(0, 4 * MAX_RANGES, 2)]

    assert acknowledgement.unpack(acknowledgement.pack(replace(TOLD, ranges=ranges))).ranges == ranges[-MAX_RANGES:]


@pytest.mark.parametrize("ranges", ["text", [[1]], [[2, 1]], [[0, 5], [3, 9]], [[-1, 3]], [[0, 1]] * (MAX_RANGES + 1)])
def test_ranges_that_make_no_sense_are_refused(ranges):
    message = msgpack.unpackb(acknowledgement.pack(TOLD)) | {"ranges": ranges}

    with pytest.raises(MessageInvalid, match="ranges"):
        acknowledgement.unpack(msgpack.packb(message))


# The clocks -------------------------------------------------------------------------------------------------------


def sample(ahead_ms, there_ms, held_ms, back_ms):
    """What a host sees whose clock is so far behind the server's, over a way that takes so long; and when it arrives."""
    sent = 1_800_000_000_000
    received = sent + there_ms + ahead_ms
    return replace(TOLD, sent_ms=sent, received_ms=received, server_ms=received + held_ms), (
        sent + there_ms + held_ms + back_ms
    )


@given(st.integers(-(10**9), 10**9), st.integers(0, 4000), st.integers(0, 60_000), st.integers(0, 4000))
def test_the_offset_is_right_within_its_error_whatever_the_way(ahead_ms, there_ms, held_ms, back_ms):
    offset = ClockOffset()
    offset.note(*sample(ahead_ms, there_ms, held_ms, back_ms))

    found = offset.cost()
    assert abs(found["host_clock_offset_seconds"] - ahead_ms / 1000) <= found["host_clock_error_seconds"] + 1e-6
    assert found["host_clock_error_seconds"] == (there_ms + back_ms) / 2000


def test_a_sample_that_was_under_way_for_long_or_backwards_is_passed_over():
    offset = ClockOffset()
    offset.note(*sample(0, 9000, 15_000, 1000))
    offset.note(*sample(0, -20, 0, 10))

    assert set(offset.cost().values()) == {AbsentReason.UNKNOWN}


def test_what_was_measured_long_ago_is_not_known_any_more():
    now = time.monotonic()
    offset = ClockOffset(lambda: now)
    offset.note(*sample(500, 10, 0, 10))
    assert offset.cost()["host_clock_offset_seconds"] == 0.5

    now += HOLDS_SECONDS + 1
    assert offset.cost()["host_clock_offset_seconds"] is AbsentReason.UNKNOWN
