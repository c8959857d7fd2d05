"""The sender: hands batches and other messages to the broker, on a thread of its own with time limits, and reconnects for ever.

Called by the batcher and the extensions, which never wait for it. Batches go by way of the outbox: each is in the spool
before it is sent, and stays there until the server has stored it. Reports of jobs wait in memory, bounded in
bytes, oldest dropped first; they go before batches. Messages are sealed when they are sent, so by the key of that moment.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from telemetry.agent.names import Parcel
from telemetry.agent.outbox import Outbox
from telemetry.agent.publisher import Publisher
from telemetry.agent.spool_file import Ranges
from telemetry.message.wire import INGEST_TASK

logger = logging.getLogger(__name__)

QUEUE_BYTES = 16 * 2**20
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Message:
    task: str
    payload: bytes
    replaces: str
    on_sent: Callable[[], None] | None


class Sender:
    """`submit`, `submit_batch` and `acknowledge` may be called from any thread and return at once."""

    def __init__(
        self,
        app: Celery,
        seal: Callable[[str, bytes], bytes],
        outbox: Outbox | None = None,
        *,
        seal_batch: Callable[[Parcel], bytes] | None = None,
    ) -> None:
        """`seal(task, body)` returns the signed envelope (telemetry/agent/keys.py), `seal_batch` a batch's own."""
        self._app, self._seal, self._outbox = app, seal, outbox
        self._seal_batch = seal_batch or (lambda parcel: seal(INGEST_TASK, parcel.body))
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self.n_sent = self.n_dropped = 0  # messages that were submitted, batches apart
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, patience: float) -> None:
        """Send what is queued and fresh if the broker takes it within `patience` seconds, then end. The spool keeps the rest."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=patience)
        if self._outbox:
            self._outbox.store()

    def submit(
        self, task: str, payload: bytes, *, replaces: str = "", on_sent: Callable[[], None] | None = None
    ) -> None:
        with self._wake:
            if replaces:
                self._forget(replaces)
            self._queue.append(Message(task, payload, replaces, on_sent))
            self._queued_bytes += len(payload)
            while self._queued_bytes > QUEUE_BYTES:
                self._drop_one()
            self._wake.notify()

    def submit_batch(self, parcel: Parcel) -> None:
        """Have a batch kept until the server has it. Needs an outbox."""
        assert self._outbox is not None  # noqa: S101 — the type's
        with self._wake:
            self._outbox.put(parcel)
            self._wake.notify()

    def acknowledge(self, epoch: str, ranges: Ranges) -> None:
        """Let go of what the server has stored: with the next batch, or at once where others wait for it."""
        assert self._outbox is not None  # noqa: S101 — the type's
        with self._wake:
            self._outbox.acknowledge(epoch, ranges)
            if self._outbox.has_news:
                self._wake.notify()

    def _forget(self, key: str) -> None:
        """Take back what a newer message makes void; the first of the queue may be on its way already."""
        for message in [m for m in list(self._queue)[1:] if m.replaces == key]:
            self._queue.remove(message)
            self._queued_bytes -= len(message.payload)

    def _drop_one(self) -> None:
        victim = self._queue.popleft()
        self._queued_bytes -= len(victim.payload)
        self.n_dropped += 1
        logger.warning("a message to %s was dropped: %d bytes wait for the broker", victim.task, self._queued_bytes)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                with self._app.connection_for_write() as connection:
                    connection.connect()
                    publisher = Publisher(self._app, connection)
                    pause = FIRST_PAUSE_SECONDS
                    self._drain(publisher)
            except Exception as error:  # noqa: BLE001 — the outermost loop of this thread: any transport's error means try again
                if self._outbox:
                    self._outbox.disconnected()
                if self._stopping:
                    logger.warning("%d messages were not sent before the end", len(self._queue))
                    return
                logger.warning("broker not reached (%s), next try in %.1f s", type(error).__name__, pause)
                self._rest(pause * random.uniform(0.8, 1.2))  # noqa: S311 — jitter
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                return

    def _rest(self, seconds: float) -> None:
        """Wait before the next try, and keep meanwhile what is handed in."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stopping:
            if self._outbox:
                self._outbox.store()
                self._outbox.disconnected()
            with self._wake:
                self._wake.wait_for(self._has_news, timeout=left)

    def _has_news(self) -> bool:
        return self._stopping or (self._outbox is not None and self._outbox.has_news)

    def _drain(self, publisher: Publisher) -> None:
        """Send until told to stop and nothing is left. Raises the transport's error; what was to be sent stays."""
        if self._outbox:
            self._outbox.connected()
        while True:
            if self._queue:
                self._send_message(publisher, self._queue[0])
            elif not self._send_batch(publisher):
                with self._wake:
                    if self._stopping and not (self._queue or self._has_batches()):
                        return
                    self._wake.wait_for(lambda: self._queue or self._has_news(), timeout=self._wait_seconds())

    def _send_message(self, publisher: Publisher, message: Message) -> None:
        publisher.publish(message.task, self._seal(message.task, message.payload))
        with self._wake:
            # A full queue may have dropped it meanwhile; it has been sent all the same.
            if self._queue and self._queue[0] is message:
                self._queue.popleft()
                self._queued_bytes -= len(message.payload)
            self.n_sent += 1
        if message.on_sent:
            message.on_sent()

    def _send_batch(self, publisher: Publisher) -> bool:
        """Send the batch whose turn it is; False where there is none."""
        if self._outbox is None:
            return False
        if self._outbox.has_news:
            self._outbox.store()
        parcel = self._outbox.next(is_last=self._stopping)
        if parcel is None:
            return False
        publisher.publish(INGEST_TASK, self._seal_batch(parcel))
        self._outbox.sent(parcel)
        return True

    def _has_batches(self) -> bool:
        return self._outbox is not None and self._outbox.has_news

    def _wait_seconds(self) -> float | None:
        return self._outbox.wait_seconds() if self._outbox else None
