"""Ports for the tests' servers, which are picked first and listened on later."""

import os
import re
import secrets
import socket
from collections.abc import Iterator

# Below the ports that Linux gives away by itself, to whoever connects or asks for any, and below those of embedded brokers
# (fleet/up/broker.py): nobody gets one of these meanwhile.
_FIRST, _LAST = 10_000, 20_000
_MOST_WORKERS = 8


def free_port() -> int:
    """Return a port on which nobody listens, and which no other caller was given, in this worker of xdist or another."""
    return next(port for port in _ports if _is_free(port))


def _own_ports() -> Iterator[int]:
    """Begin anywhere, so that two runs on one machine do not meet."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _MOST_WORKERS
    own = range(_FIRST + worker, _LAST, _MOST_WORKERS)
    place = secrets.randbelow(len(own))
    while True:
        yield own[place]
        place = (place + 1) % len(own)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


_ports = _own_ports()
