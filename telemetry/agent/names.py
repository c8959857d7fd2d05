"""How a host's batches are named: an epoch and a sequence, each pair once and for ever, and the segment of their clock.

The spool keeps what stands here over restarts; the batch maker takes a name for each batch. Knows neither.
"""

from threading import Lock
from typing import NamedTuple


class Parcel(NamedTuple):
    """A batch's bytes and the name that stands in them."""

    host: str
    epoch: str
    sequence: int
    body: bytes


class Names:
    """One host's. `epoch` is a random id of 32 hex digits; `segment` and `offset` are those of its latest batch.

    `offset` is the wall clock's over the boot clock in seconds, None where the host has made no batch yet.
    """

    def __init__(
        self, epoch: str, *, host: str = "", following: int = 0, segment: int = 0, offset: float | None = None
    ) -> None:
        self.host, self.epoch = host, epoch
        self.segment, self.offset = segment, offset
        self._following = following
        self._lock = Lock()

    def claim(self) -> tuple[str, int]:
        """Return a name that no batch has had."""
        with self._lock:
            name = self.epoch, self._following
            self._following += 1
        return name

    def begin(self, epoch: str) -> None:
        """Name what comes from now on in another epoch."""
        with self._lock:
            self.epoch, self._following = epoch, 0

    def has_given(self, epoch: str, sequence: int) -> bool:
        """Tell whether that name was claimed here; of another epoch than the present one, that is not known."""
        with self._lock:
            return epoch != self.epoch or sequence < self._following
