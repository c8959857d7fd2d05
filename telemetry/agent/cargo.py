"""What the upper package has to tell the server, carried by the batches: bytes under a name, which telemetry does not read.

A batch takes along what there is when it is made; from then on it is in the spool, and comes to the server once. What is
left when the agent ends waits in a file for its next start.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import msgpack

from telemetry.agent import private_file
from telemetry.message.wire import MAX_CARGO_BYTES, Cargo

logger = logging.getLogger(__name__)

_FILE = "cargo.left"


class CargoHold:
    """`register` a name with what gives its pieces, at most so many bytes of them; the batcher calls `take`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._lock = Lock()
        self._sources: dict[str, Callable[[int], Sequence[bytes]]] = {}
        self._left: list[Cargo] = []  # what earlier lives did not get rid of, a batch's each

    def register(self, name: str, source: Callable[[int], Sequence[bytes]]) -> None:
        self._sources[name] = source

    def start(self) -> None:
        """Take up what an earlier life of the agent left."""
        try:
            left = msgpack.unpackb(self._path.read_bytes())
            self._left = [{str(name): [bytes(piece) for piece in cargo[name]] for name in cargo} for cargo in left]
        except FileNotFoundError:
            return
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            logger.warning("%s cannot be read and is left out: %s", self._path, error)

    def stop(self) -> None:
        """Keep for the next start what no batch took."""
        left = list(iter(self.take, {}))
        if left:
            private_file.write(self._path, msgpack.packb(left))

    def take(self) -> Cargo:
        """Return what is to go with the next batch, {} where there is nothing."""
        with self._lock:
            if self._left:
                self._path.unlink(missing_ok=True)
                return self._left.pop(0)
        found = {name: list(source(MAX_CARGO_BYTES)) for name, source in self._sources.items()}
        return {name: pieces for name, pieces in found.items() if pieces}
