"""What batches carry for the upper package: on the agent, on the wire, and to whoever takes it."""

from dataclasses import replace
from datetime import UTC, datetime

import msgpack
import pytest
import zstandard

from telemetry.agent.batching import BatchMaker
from telemetry.agent.cargo import CargoHold
from telemetry.agent.names import Names
from telemetry.agent.ticks import Tick
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.fields import MessageInvalid
from telemetry.models import SetAside, StoredBatch
from telemetry.receiving import cargo
from tests.telemetry.batches import EPOCH, batch, take

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def packed(**pieces):
    return wire.pack(replace(batch([NOW_MS], {"power_draw_watts": [650.0]}), cargo=pieces))


def cargo_of(body):
    ((found, _),) = received.read_last([body])
    return found.cargo


def with_cargo(content):
    """Return a batch whose cargo is these bytes."""
    message = msgpack.unpackb(packed())
    return msgpack.packb(message | {"cargo": content})


def test_a_batch_carries_what_it_was_given_and_none_costs_nothing():
    assert cargo_of(packed(steps=[b"one", b""], other=[b"two"])) == {"steps": [b"one", b""], "other": [b"two"]}
    assert cargo_of(packed()) == {}
    assert "cargo" not in msgpack.unpackb(packed())


def test_a_batch_that_gets_another_name_keeps_its_cargo():
    assert cargo_of(wire.renamed(packed(steps=[b"one"]), EPOCH, 9)) == {"steps": [b"one"]}


BOMB = zstandard.ZstdCompressor().compress(bytes(100_000_000))


@pytest.mark.parametrize(
    "content",
    [
        "text",
        b"no frame",
        BOMB,
        *(zstandard.compress(msgpack.packb(each)) for each in ([1], {"steps": 1}, {"steps": ["text"]}, {1: [b""]})),
    ],
    ids=["text", "no frame", "a bomb", "a list", "no list", "no bytes", "no name"],
)
def test_a_cargo_that_is_none_does_not_fit(content):
    (found,) = received.read_last([with_cargo(content)])
    assert isinstance(found, MessageInvalid)
    assert str(found).startswith(("cargo: ", "message: "))


@pytest.mark.django_db
def test_a_batch_whose_cargo_does_not_fit_is_kept_aside_whole():
    take(with_cargo(b"no frame"), NOW)

    assert SetAside.objects.get().reason.startswith("it does not fit: cargo")
    assert not StoredBatch.objects.exists()


@pytest.mark.django_db
def test_what_a_taker_raises_undoes_the_batch(monkeypatch):
    def fail(pieces, now):
        raise ZeroDivisionError

    monkeypatch.setattr(cargo, "import_string", lambda path: fail)
    with pytest.raises(ZeroDivisionError):
        take(packed(steps=[b"one"]), NOW)

    assert not StoredBatch.objects.exists()


@pytest.mark.django_db
def test_a_cargo_that_nobody_takes_is_left():
    assert take(packed(unknown=[b"one"]), NOW)


def source(*pieces):
    left = list(pieces)

    def take(max_bytes):
        taken, left[:] = left[:2], left[2:]
        return taken

    return take


def test_a_batch_takes_along_what_there_is_when_it_is_made(tmp_path):
    hold = CargoHold(tmp_path)
    hold.register("steps", source(b"1", b"2", b"3"))
    maker = BatchMaker("a", "0" * 32, Names(EPOCH, host="a"), 1.0, hold.take)

    made = [
        each.cargo
        for number in range(3)
        for each in maker.make([Tick(number, float(number), 1.7e9)], {}, None, lambda: 1.7e9)
    ]

    assert made == [{"steps": [b"1", b"2"]}, {"steps": [b"3"]}, {}]


def test_what_no_batch_took_goes_with_the_next_lifes_first_ones(tmp_path):
    hold = CargoHold(tmp_path)
    hold.register("steps", source(b"1", b"2", b"3"))
    hold.stop()

    after = CargoHold(tmp_path)
    after.register("steps", source(b"4"))
    after.start()
    assert [after.take() for _ in range(4)] == [{"steps": [b"1", b"2"]}, {"steps": [b"3"]}, {"steps": [b"4"]}, {}]
    after.stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xc1", msgpack.packb(7), msgpack.packb([7]), msgpack.packb([{"a": [7.5]}])])
def test_a_file_of_what_was_left_that_is_damaged_is_said_and_passed_over(tmp_path, caplog, content):
    (tmp_path / "cargo.left").write_bytes(content)

    hold = CargoHold(tmp_path)
    hold.start()

    assert hold.take() == {}
    assert "cannot be read and is left out" in caplog.text
