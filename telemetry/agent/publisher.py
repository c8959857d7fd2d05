"""Puts a task's message into the server's queue, as Celery's workers read it, on kombu's own channel. Called by the sender.

Celery's `send_task` asks for routes, signals, queues and twenty headers each time: half a millisecond that an agent does
not have. What stands here is its message protocol, version 2, without what is for workflows, time limits and logs.
"""

from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.connection import Connection
from kombu.entity import PERSISTENT_DELIVERY_MODE
from kombu.serialization import dumps

from telemetry.message.wire import INGEST_QUEUE

_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Publisher:
    """On one connection. Raises the transport's errors."""

    def __init__(self, app: Celery, connection: Connection) -> None:
        self._channel: Any = connection.default_channel
        self._serializer = app.conf.task_serializer
        queue: Any = app.amqp.queues[INGEST_QUEUE]
        queue(self._channel).declare()

    def publish(self, task: str, payload: bytes) -> None:
        number = str(uuid4())
        content_type, content_encoding, body = dumps(((payload,), {}, _EMBED), serializer=self._serializer)  # type: ignore[no-untyped-call]
        message = self._channel.prepare_message(
            body,
            priority=0,
            content_type=content_type,
            content_encoding=content_encoding,
            headers={"lang": "py", "task": task, "id": number},
            properties={"correlation_id": number, "reply_to": "", "delivery_mode": PERSISTENT_DELIVERY_MODE},
        )
        # Straight into the queue of that name: another exchange would be looked up in the broker each time.
        self._channel.basic_publish(message, exchange="", routing_key=INGEST_QUEUE)
