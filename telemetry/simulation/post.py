"""The hosts' mail from the server: reads the simulated hosts' queues for acknowledgements. Called by `manage.py simulate`.

One thread looks at each queue in turn, every few seconds: a consumer of a thousand queues would name them all to the
broker for each message. Other orders than acknowledgements are passed over: nobody is there to carry them out.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
    """`let_go(epoch, ranges)` is the sender's; `directory` is where the hosts' order desks would keep their files."""

    def __init__(
        self,
        app: Celery,
        hosts: Sequence[str],
        server_key: bytes,
        directory: Path,
        let_go: Callable[[str, Ranges], None],
    ) -> None:
        self._app, self._let_go = app, let_go
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
        if message.headers.get("task") != ACKNOWLEDGE_TASK:
            return
        message.accept = self._accept
        try:
            told = acknowledging.read(desk, message.decode()[0][0], int(time.time() * 1000))
        except (MessageInvalid, LookupError, TypeError) as error:
            logger.warning("an acknowledgement was refused: %s", error)
            return
        self._let_go(told.epoch, told.ranges)
