"""The batcher: every few seconds the sampler's ticks become a batch's bytes, handed to the sender. A thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from telemetry.agent.batching import BatchMaker
from telemetry.agent.sampler import Sampler
from telemetry.wire import pack

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0


class Batcher:
    """`send` takes a batch's bytes and returns at once; `software` tells versions besides those of the backends."""

    def __init__(
        self,
        maker: BatchMaker,
        sampler: Sampler,
        send: Callable[[bytes], None],
        *,
        period: float,
        software: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._maker, self._sampler, self._send, self._software = maker, sampler, send, software
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hand over what is left."""
        self._stop.set()
        self._thread.join(timeout=FAREWELL_SECONDS)
        self.flush()

    def flush(self) -> None:
        """Make batches of the ticks that are whole, and hand them over."""
        software = {**self._software(), **self._sampler.software()}
        for batch in self._maker.make(self._sampler.take(), software, self._sampler.topology(), time.time):
            self._send(pack(batch))

    def _run(self) -> None:
        first = min(1.0, self._period)  # the first readings are on the page at once, not after a whole period
        while not self._stop.wait(self._pause(first if self._maker.sequence == 0 else self._period)):
            try:
                self.flush()
            except Exception:  # the outermost loop of this thread: one batch is lost and said so, the next is tried
                logger.exception("a batch could not be made")

    def _pause(self, period: float) -> float:
        """Return the seconds to the moment near `period` that lies between two full ticks.

        There the latest tick is whole, and making a batch does not get in the way of the next.
        """
        left = self._sampler.seconds_to_flush()
        each = self._sampler.period
        return left + each * max(0, round((period - left) / each))
