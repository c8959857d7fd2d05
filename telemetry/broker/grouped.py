"""Celery tasks whose messages are handled many at a time: collected as they come, and given back to nobody until all are stored.

Loaded by the worker as the strategy of such a task, in place of Celery's own, which makes a request of each message: at
telemetry's rate that alone would cost more than storing them. Knows nothing of what the messages are.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from celery import Celery, Task
from kombu.message import Message

from telemetry.broker.not_now import NotNow

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class GroupTask(Task):  # type: ignore[misc]  # Celery brings no types
    """A task of one argument, whose `handle` takes those of many messages.

    `handle(payloads)` returns when all are stored. It raises NotNow, or one of `not_now`, where it is to be tried again
    later; after anything else each message is handled alone, and one that cannot be is logged and dropped.
    """

    abstract = True
    Strategy = "telemetry.broker.grouped:Collector"
    most_messages: ClassVar[int] = 200
    longest_wait_seconds: ClassVar[float] = 0.3
    not_now: ClassVar[tuple[type[Exception], ...]] = ()

    def handle(self, payloads: Sequence[Any]) -> None:
        raise NotImplementedError


class Collector:
    """Takes a task's messages from the worker's loop, on its thread. They go back to the broker when the worker ends."""

    def __init__(self, task: GroupTask, app: Celery, consumer: Any, **_: Any) -> None:
        self._task, self._consumer = task, consumer
        self._not_now: tuple[type[Exception], ...] = (NotNow, *task.not_now)
        self._waiting: list[tuple[Message, Any]] = []
        self._pause_seconds = 0.0  # after a failure, before the next try
        self._timer: Any = None

    def __call__(self, message: Message, body: object, ack: object, reject: object, *_: object, **__: object) -> None:
        """Raises what kombu raises where the content is of a kind that is not accepted: the worker then drops it."""
        try:
            ((payload,), *_rest) = message.payload
        except (TypeError, ValueError):
            logger.warning("a message to %s was dropped: it is no call with one argument", self._task.name)
            message.reject_log_error(logger, self._consumer.connection_errors)
            return
        self._waiting.append((message, payload))
        if len(self._waiting) >= self._most and not self._pause_seconds:
            self._flush()
        elif self._timer is None:
            self._schedule(self._task.longest_wait_seconds)
            if rest := getattr(message.channel, "rest", None):
                rest(self._task.longest_wait_seconds)

    @property
    def _most(self) -> int:
        """No more come than may be prefetched: to wait for more would be to wait for the time."""
        prefetched: int = self._consumer.qos.value if self._consumer.qos else 0
        return min(self._task.most_messages, prefetched or self._task.most_messages)

    def _schedule(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._consumer.timer.call_after(seconds, self._on_time)

    def _on_time(self) -> None:
        """Raises what `take_waiting` raises; what had come is handled all the same."""
        take_waiting = getattr(self._waiting[0][0].channel, "take_waiting", None) if self._waiting else None
        rung = self._timer
        try:
            if take_waiting and not self._pause_seconds:
                take_waiting()
        finally:
            # Else what was taken filled a group that has to wait, and its next try is due later.
            if self._timer is rung:
                self._timer = None
                self._flush()

    def _flush(self) -> None:
        while self._waiting:
            group = self._waiting[: self._task.most_messages]
            try:
                self._handle([payload for _, payload in group])
            except self._not_now as error:
                self._pause_seconds = min(2 * self._pause_seconds or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                words = "%d messages to %s wait: %s; next try in %.1f s"
                logger.warning(words, len(self._waiting), self._task.name, error, self._pause_seconds)
                self._schedule(self._pause_seconds)
                return
            self._pause_seconds = 0.0
            del self._waiting[: len(group)]
            acknowledge([message for message, _ in group], self._consumer.connection_errors)

    def _handle(self, payloads: Sequence[Any]) -> None:
        try:
            self._task.handle(payloads)
        except self._not_now:
            raise
        except Exception:
            if len(payloads) == 1:
                logger.exception("a message to %s was dropped", self._task.name)
                return
            logger.warning("%d messages to %s are handled one by one", len(payloads), self._task.name, exc_info=True)
            for payload in payloads:
                self._handle([payload])


def acknowledge(messages: Sequence[Message], connection_errors: tuple[type[Exception], ...]) -> None:
    """Tell the broker that it may forget them. One that it does not hear of comes again."""
    together: Callable[[Sequence[Message]], None] | None = getattr(messages[0].channel, "ack_all", None)
    if together is None:
        for message in messages:
            message.ack_log_error(logger, connection_errors)
        return
    try:
        together(messages)
    except connection_errors as error:
        logger.warning("%d messages could not be acknowledged, and will come again: %s", len(messages), error)
