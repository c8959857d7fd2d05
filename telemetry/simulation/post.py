"""The mail of simulated hosts: reads their queues for acknowledgements and orders. Called by `manage.py simulate`.

One thread looks at each queue in turn, every few seconds: a consumer of a thousand queues would name them all to the
broker for each message. Orders that nobody takes are passed over.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from celery import Celery
from kombu.serialization import prepare_accept_content

from telemetry.agent import acknowledging
from telemetry.agent.orders import OrderDesk
from telemetry.agent.spool_file import Ranges
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK
from telemetry.message.wire import MessageInvalid, host_queue

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0


class Post:
    """`let_go(epoch, ranges)` is the sender's; `directory` is where the hosts' order desks keep their file.

    `takers` get the bodies of orders that the server signed for the host, by task. They are called on the post's thread.
    """

    def __init__(
        self,
        app: Celery,
        hosts: Sequence[str],
        server_key: bytes,
        directory: Path,
        let_go: Callable[[str, Ranges], None],
        takers: Mapping[str, Callable[[bytes], None]] = MappingProxyType({}),
    ) -> None:
        self._app, self._let_go, self._takers = app, let_go, takers
        self._desks: Mapping[str, OrderDesk] = {host: OrderDesk(directory, host, server_key) for host in hosts}
        self._accept = prepare_accept_content(["msgpack"])  # type: ignore[no-untyped-call]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="post", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(timeout=SWEEP_SECONDS)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with self._app.connection_for_read() as connection:
                    channel: Any = connection.default_channel
                    for host in self._desks:
                        self._app.amqp.queues[host_queue(host)](channel).declare()
                    while not self._ending.wait(SWEEP_SECONDS):
                        self._sweep(channel)
            except Exception as error:  # noqa: BLE001 — the outermost loop of this thread: any transport's error means try again
                logger.warning("broker not reached (%s): acknowledgements wait", type(error).__name__)
                self._ending.wait(1.0)

    def _sweep(self, channel: Any) -> None:
        for host, desk in self._desks.items():
            while (message := channel.basic_get(host_queue(host), no_ack=True)) is not None:
                self._take(desk, message)

    def _take(self, desk: OrderDesk, message: Any) -> None:
        task, now_ms = message.headers.get("task"), int(time.time() * 1000)
        if task != ACKNOWLEDGE_TASK and task not in self._takers:
            return
        message.accept = self._accept
        try:
            payload = message.decode()[0][0]
            if task == ACKNOWLEDGE_TASK:
                told = acknowledging.read(desk, payload, now_ms)
                self._let_go(told.epoch, told.ranges)
            else:
                self._takers[task](desk.open(task, payload, now_ms))
        except (MessageInvalid, LookupError, TypeError) as error:
            logger.warning("a message to %s was refused: %s", task, error)
