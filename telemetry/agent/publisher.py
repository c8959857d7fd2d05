"""Puts a task's message into the server's queue, as Celery's workers read it, by kombu's own producer. Called by the sender.

Celery's `send_task` asks for routes, signals, queues and twenty headers each time: half a millisecond that an agent does
not have. What stands here is its message protocol, version 2, without what is for workflows, time limits and logs.
"""

from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Producer

from telemetry.wire import INGEST_QUEUE

HEADERS = ("lang", "task", "id")
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Publisher:
    """On one connection. Raises the transport's errors."""

    def __init__(self, app: Celery, connection: Connection) -> None:
        channel = connection.default_channel
        queue: Any = app.amqp.queues[INGEST_QUEUE]
        queue(channel).declare()
        self._producer: Any = Producer(channel, serializer=app.conf.task_serializer, auto_declare=False)  # type: ignore[no-untyped-call]

    def publish(self, task: str, payload: bytes) -> None:
        number = str(uuid4())
        self._producer.publish(
            ((payload,), {}, _EMBED),
            exchange="",  # straight into the queue of that name: another one would be looked up in the broker each time
            routing_key=INGEST_QUEUE,
            headers={"lang": "py", "task": task, "id": number},
            correlation_id=number,
            reply_to="",
            retry=False,
        )
