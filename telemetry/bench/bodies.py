"""Packed batches in a file, on their way from the bench to the process that has the store. No Django."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgpack


class Put(Protocol):
    def __call__(self, host: str, body: bytes) -> None:
        """Append one host's packed batch."""


@contextmanager
def writing(file: Path) -> Iterator[Put]:
    packer = msgpack.Packer()
    with file.open("wb") as stream:

        def put(host: str, body: bytes) -> None:
            stream.write(packer.pack((host, body)))

        yield put


def read(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (host, packed batch) in the order of their writing."""
    with file.open("rb") as stream:
        yield from msgpack.Unpacker(stream, max_buffer_size=2**30)
