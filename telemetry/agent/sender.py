"""The sender: hands queued messages to the broker, on a thread of its own with time limits, and reconnects for ever.

Called by the batcher and the extensions, which never wait for it. What waits is bounded in bytes: telemetry is dropped
oldest first and counted; reports of jobs and steps are dropped only when no telemetry is left to drop.
Messages are sealed when they are sent, so by the key of that moment.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery
from celery.utils import uuid
from kombu.connection import Connection

from telemetry.wire import INGEST_QUEUE, INGEST_TASK

logger = logging.getLogger(__name__)

QUEUE_BYTES = 16 * 2**20
SENT_TOTAL, WAITING, DROPPED_TOTAL = "agent_batches_sent_total", "agent_batches_spooled", "agent_batches_dropped_total"
# Celery's message protocol asks for these; the others are for workflows, time limits and logs: 400 bytes of each message.
HEADERS = ("lang", "task", "id")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Message:
    task: str
    payload: bytes
    replaces: str
    on_sent: Callable[[], None] | None


class Sender:
    """`submit` may be called from any thread and returns at once."""

    def __init__(self, app: Celery, seal: Callable[[str, bytes], bytes]) -> None:
        """`seal(task, body)` returns the signed envelope (telemetry/agent/keys.py)."""
        self._app, self._seal = app, seal
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._sent = self._dropped = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, patience: float) -> None:
        """Send what is queued if the broker takes it within `patience` seconds, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=patience)

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

    def cost(self) -> dict[str, float]:
        """Return the sender's part of the agent's own cost: catalogue name → value."""
        with self._wake:
            waiting = sum(message.task == INGEST_TASK for message in self._queue)
            return {SENT_TOTAL: self._sent, WAITING: waiting, DROPPED_TOTAL: self._dropped}

    def _forget(self, key: str) -> None:
        """Take back what a newer message makes void; the first of the queue may be on its way already."""
        for message in [m for m in list(self._queue)[1:] if m.replaces == key]:
            self._queue.remove(message)
            self._queued_bytes -= len(message.payload)

    def _drop_one(self) -> None:
        victim = next((m for m in self._queue if m.task == INGEST_TASK), self._queue[0])
        self._queue.remove(victim)
        self._queued_bytes -= len(victim.payload)
        self._dropped += victim.task == INGEST_TASK
        if victim.task != INGEST_TASK:
            logger.warning("a message to %s was dropped: %d bytes wait for the broker", victim.task, self._queued_bytes)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            sent_before = self._sent
            try:
                with self._app.connection_for_write() as connection:
                    self._drain(connection)
            except Exception as error:  # noqa: BLE001 — the outermost loop of this thread: any transport's error means try again
                if self._stopping:
                    logger.warning("%d messages were not sent before the end", len(self._queue))
                    return
                pause = FIRST_PAUSE_SECONDS if self._sent > sent_before else min(pause * 2, LONGEST_PAUSE_SECONDS)
                logger.warning("broker not reached (%s), next try in %.1f s", type(error).__name__, pause)
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, timeout=pause * random.uniform(0.8, 1.2))  # noqa: S311 — jitter
            else:
                return

    def _drain(self, connection: Connection) -> None:
        """Send until told to stop and nothing is left. Raises the transport's error; the message stays queued."""
        with self._app.amqp.Producer(connection.default_channel, auto_declare=False) as producer:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._queue or self._stopping)
                    if not self._queue:
                        return
                    message = self._queue[0]
                self._publish(producer, message)
                self._settle(message)

    def _publish(self, producer: object, message: Message) -> None:
        envelope = self._seal(message.task, message.payload)
        task = self._app.amqp.as_task_v2(uuid(), message.task, (envelope,), argsrepr="")
        lean = task._replace(headers={name: task.headers[name] for name in HEADERS})
        self._app.amqp.send_task_message(producer, message.task, lean, queue=INGEST_QUEUE, retry=False)

    def _settle(self, message: Message) -> None:
        with self._wake:
            # A full queue may have dropped it meanwhile; it has been sent all the same.
            if self._queue and self._queue[0] is message:
                self._queue.popleft()
                self._queued_bytes -= len(message.payload)
            self._sent += message.task == INGEST_TASK
        if message.on_sent:
            message.on_sent()
