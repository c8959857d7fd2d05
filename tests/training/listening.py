"""An agent's step socket as the tests of the client hold it, and what arrives there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.steps import datagram
from training.steps.datagram import UNTOLD_NS


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Yield a socket such as an agent's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(60)
        yield listening


def frame(agent: socket.socket):
    """Return (header, record) of the next datagram."""
    return datagram.read(agent.recv(datagram.MAX_BYTES))


def record(agent: socket.socket):
    return frame(agent)[1]


def phases(agent: socket.socket) -> dict[str, float]:
    """Return the seconds of the phases that the next datagram tells."""
    head, told = frame(agent)
    return {name: ns / 1e9 for name, ns in zip(head["phases"], told.phases_ns, strict=True) if ns != UNTOLD_NS}
