"""A broker in memory, to see which messages the server sends to its hosts."""

from collections.abc import Iterator

import pytest
from celery import current_app
from kombu import Connection, pools
from kombu.message import Message
from kombu.transport.memory import Channel

from fleet.joining import server_key
from telemetry.message import envelope
from telemetry.message.wire import host_queue


class Outbox:
    """The queues of hosts, as an agent would read them."""

    def __init__(self, broker: Connection) -> None:
        self._channel = broker.channel()

    def taken(self, host: str) -> list[tuple[str, bytes]]:
        """Return (task, body) of each order that waits for a host, signed by the server, and take them away."""
        orders = []
        for task, payload in self.sealed(host):
            order = envelope.read(payload)
            assert order.host == host
            orders.append((task, order.verify(task, server_key.public_bytes())))
        return orders

    def sealed(self, host: str) -> list[tuple[str, bytes]]:
        """Return (task, envelope) of each message that waits for a host, and take them away."""
        found = []
        for message in self.messages(host):
            message.accept = {"application/x-msgpack"}
            (payload, *_), *_ = message.decode()
            found.append((message.headers["task"], payload))
        return found

    def messages(self, host: str) -> list[Message]:
        """Return each message that waits for a host as the broker has it, and take them away."""
        found = []
        queue = host_queue(host)
        while queue in Channel.queues and (message := self._channel.basic_get(queue, no_ack=True)):
            found.append(message)
        return found


@pytest.fixture
def outbox(monkeypatch) -> Iterator[Outbox]:
    broker = Connection("memory://")
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[broker])
    yield Outbox(broker)
    for queue in Channel.queues.values():
        queue.queue.clear()
