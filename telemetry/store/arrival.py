"""A batch on its way into the store, and what became of it there. Made by the ingest, filled in by the acceptance."""

from dataclasses import dataclass
from enum import Enum, auto

from fleet.models import Host
from telemetry.decoding.last_tick import LastTick
from telemetry.message.wire import Batch


class Fate(Enum):
    """What became of a batch."""

    STORED = auto()
    SET_ASIDE = auto()  # kept, but no part of any figure
    KNOWN = auto()  # accepted before
    NUMBER_TAKEN = auto()  # another batch of the host was accepted under its number; this one is set aside
    HOST_GONE = auto()


@dataclass(slots=True, eq=False)
class Arrival:
    """A verified batch of `host`, its last readings `last`, and its bytes `body` as they came.

    `aside` says why it is no part of any figure, "" where it is. The acceptance fills in the rest: `fate`; whether a newer
    batch of the host is here (`is_late`); which of "software" and "topology" it tells as the newest (`tells`); and the
    other life of the same key that goes on beside it, with its beginning, "" where there is none.
    """

    host: Host
    batch: Batch
    last: LastTick
    body: bytes
    aside: str = ""
    fate: Fate = Fate.KNOWN
    is_late: bool = False
    tells: frozenset[str] = frozenset()
    rival_epoch: str = ""
    rival_began_ms: int = 0

    @property
    def life(self) -> tuple[int, str]:
        """Host and epoch: among these its sequence is the batch's name."""
        return self.host.pk, self.batch.epoch
