"""Bytes per value of the simulator's signals, and what a queue of real messages tells. Called by the agent's bench."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

import msgpack

from telemetry.decoding import received
from telemetry.message import envelope
from telemetry.message.wire import INGEST_TASK, Batch
from telemetry.simulation.fleet import Fleet, Shape

SIMULATED_SECONDS = 300
_START = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch as it lay in the broker: `payload_bytes` of the batch alone, `broker_bytes` with all around it."""

    batch: Batch
    payload_bytes: int
    broker_bytes: int

    @property
    def n_values(self) -> int:
        columns = self.batch.columns.values()
        return sum(value is not None for by_device in columns for column in by_device for value in column)


def sent_by(host: str, messages: Iterable[bytes]) -> list[Sent]:
    """Return the host's batches among messages of the ingest queue, in their order."""
    found = []
    for raw in messages:
        message = json.loads(raw)
        if message["headers"]["task"] != INGEST_TASK:
            continue
        body = envelope.read(msgpack.unpackb(base64.b64decode(message["body"]))[0][0]).body
        batch = received.unpack(body)
        if batch.host == host:
            found.append(Sent(batch, len(body), len(raw)))
    return found


def simulated_batches(n_gpus: int) -> list[bytes]:
    """Return what one simulated host that trains sends over SIMULATED_SECONDS, in batches of 5 s."""
    now, bodies = [_START], []
    fleet = Fleet(Shape(1, n_gpus), lambda: now[0], lambda parcel: bodies.append(parcel.body))
    for _ in range(SIMULATED_SECONDS):
        now[0] += 1.0
        fleet.tick()
    return bodies


def bytes_per_value(batches: Iterable[Sent]) -> tuple[float, float]:
    """Return (of the payload, in the broker)."""
    known = list(batches)
    n_values = sum(sent.n_values for sent in known)
    return (
        sum(sent.payload_bytes for sent in known) / n_values,
        sum(sent.broker_bytes for sent in known) / n_values,
    )
