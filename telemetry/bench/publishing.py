"""Signed batches on their way to a bench's broker, by the agent's own sender. Called by the benches; no Django."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.agent.sender import Sender
from telemetry.bench.figure import BenchFailed
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message import envelope
from telemetry.message.wire import INGEST_TASK

_MOST_WAITING, _PATIENCE_SECONDS = 500, 60.0  # the sender would drop what waits beyond its 16 MB


class Publisher:
    """Sends each body under its host's key, and never more at a time than the sender keeps."""

    def __init__(self, sender: Sender, seeds: dict[str, str]) -> None:
        """`seeds` are the keys' by host, in hex."""
        self._sender, self._free = sender, BoundedSemaphore(_MOST_WAITING)
        self._keys = {name: Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)) for name, seed in seeds.items()}

    def send(self, host: str, body: bytes) -> None:
        """Raises BenchFailed where the broker takes nothing for a minute."""
        if not self._free.acquire(timeout=_PATIENCE_SECONDS):
            raise BenchFailed(f"the broker took nothing for {_PATIENCE_SECONDS:g} s")
        sealed = envelope.seal(self._keys[host], INGEST_TASK, host, body)
        self._sender.submit(INGEST_TASK, sealed, on_sent=self._free.release)


@contextmanager
def publishing(broker_url: str, seeds: dict[str, str]) -> Iterator[Publisher]:
    """Yield a publisher; all that it was given is in the broker when the context ends."""
    app = Celery(broker=broker_url, set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    sender = Sender(app, lambda _, sealed: sealed)
    sender.start()
    try:
        yield Publisher(sender, seeds)
    finally:
        sender.stop(patience=_PATIENCE_SECONDS)


def publish(broker_url: str, seeds: dict[str, str], bodies: Iterable[tuple[str, bytes]]) -> int:
    """Send all; returns how many."""
    n = 0
    with publishing(broker_url, seeds) as publisher:
        for n, (host, body) in enumerate(bodies, start=1):  # noqa: B007 — the last number is the answer
            publisher.send(host, body)
    return n
