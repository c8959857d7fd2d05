"""The batcher: every few seconds the sampler's ticks become a batch's bytes, handed to the sender under their name.

It has no thread of its own: the one that read the last tick goes on with it, while its code and data are still at hand,
and the sampler's other thread reads the next.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from telemetry.agent.batching import BatchMaker
from telemetry.agent.names import Parcel
from telemetry.agent.packer import Packer
from telemetry.agent.sampler import Sampler

logger = logging.getLogger(__name__)


class Batcher:
    """`send` takes a batch and returns at once; `software` tells versions besides those of the backends."""

    def __init__(
        self,
        maker: BatchMaker,
        sampler: Sampler,
        send: Callable[[Parcel], None],
        *,
        every_ticks: int,
        software: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._maker, self._sampler, self._send, self._software = maker, sampler, send, software
        self._every_ticks = every_ticks
        self._n_ticks = 0
        self._packer = Packer()
        self._at_work = threading.Lock()  # a batch that takes longer than a tick: two threads would make one each

    def start(self) -> None:
        self._sampler.after_full_tick(self._note_tick)

    def stop(self) -> None:
        """Hand over what is left."""
        self.flush()

    def flush(self) -> None:
        """Make batches of the ticks that are whole, and hand them over."""
        with self._at_work:
            software = {**self._software(), **self._sampler.software()}
            for batch in self._maker.make(self._sampler.take(), software, self._sampler.topology(), time.time):
                self._send(Parcel(batch.host, batch.epoch, batch.sequence, self._packer.pack(batch)))

    def _note_tick(self) -> None:
        """The first tick is a batch by itself: it is on the page at once, not after a whole period."""
        self._n_ticks += 1
        if self._n_ticks % self._every_ticks != 0 and self._maker.n_made > 0:
            return
        try:
            self.flush()
        except Exception:  # on a thread that samples: one batch is lost and said so, the next is tried
            logger.exception("a batch could not be made")
