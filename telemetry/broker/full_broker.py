"""kombu's Redis transport for a broker whose disk or memory is full: it answers every write with an error, and that passes.

Celery ends a worker whose broker answers with an error, as nothing it knows of would mend it. Here it is a lost connection:
the worker waits and connects again. Named as a string by the agent's app; the server's transport builds on it. No Django.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from typing import Any

from kombu.transport import redis
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

PAUSE_SECONDS = 1.0  # the next connection is refused at once too: not to ask without pause
WAIT_SECONDS = 5  # within the transport's time limit on the socket


@contextmanager
def refusals_as_lost() -> Iterator[None]:
    """Raises ConnectionLost, after a pause, where the broker refuses what is asked within."""
    try:
        yield
    except ResponseError as error:
        time.sleep(PAUSE_SECONDS)
        raise ConnectionLost(f"the broker refuses: {error}") from error


class Channel(redis.Channel):
    """Takes its messages so, and writes over one connection that it keeps.

    kombu makes a client for each message, and the client asks pool, retries and meters for each: all of it costs more than the
    message does. A connection that is lost is told to whoever writes, who connects anew.
    """

    _client: Any = None
    _writer: Any = None
    _writer_pool: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None:
            if self._client is None or self._client.connection_pool is not self.pool:
                self._client = self._create_client()  # type: ignore[no-untyped-call]  # kombu has no types
            client = self._client
        yield client

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if kwargs or self._expires:  # queues that end by themselves: none of an agent's
            super()._put(queue, message, **kwargs)  # type: ignore[no-untyped-call]  # kombu has no types
            return
        if self._writer is None or self._writer_pool is not self.pool:
            self._writer_pool, self._writer = self.pool, self.pool.get_connection()
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))  # type: ignore[no-untyped-call]
        self._writer.send_command("LPUSH", key, dumps(message))
        self._writer.read_response()

    def _brpop_read(self, **options: Any) -> Any:
        with refusals_as_lost():
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has no types


class Transport(redis.Transport):
    """Redis that may be full, and is asked seldom: what comes is handed over at once, however long the waiting for it lasts.

    kombu's worker wakes twice a second, to ask again and for a timer of queues that end by themselves. An idle agent would spend
    more on that than on anything else, and a broker of many hosts as well.
    """

    Channel = Channel
    brpop_timeout = WAIT_SECONDS

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]  # kombu has no types
        cycle: Any = self.cycle
        cycle._binding_expiry_tref.cancel()  # noqa: SLF001 — none of an agent's queues ends by itself
