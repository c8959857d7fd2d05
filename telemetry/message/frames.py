"""zstd's objects, one for each thread: they work without the interpreter's lock, and two threads in one of them crash it.

Made once for each module that compresses or decompresses often. Called by the agent and the server. No Django, no numpy.
"""

import threading

import zstandard


class Compressor(threading.local):
    """Compresses at one level; may be shared by threads. Each thread that uses it calls `__init__` once more."""

    def __init__(self, level: int, *, write_content_size: bool = True, write_checksum: bool = False) -> None:
        self._own = zstandard.ZstdCompressor(
            level=level, write_content_size=write_content_size, write_checksum=write_checksum
        )

    def compress(self, raw: bytes) -> bytes:
        return self._own.compress(raw)


class Decompressor(threading.local):
    """Decompresses frames of our own making; may be shared by threads."""

    def __init__(self) -> None:
        self._own = zstandard.ZstdDecompressor()

    def decompress(self, frame: bytes | memoryview, max_output_size: int = 0) -> bytes:
        """Return the content. `max_output_size` is needed where the frame states no size. Raises zstandard.ZstdError."""
        return self._own.decompress(frame, max_output_size=max_output_size)
