"""The server's Redis transport and a real Redis: after that stood still, and with junk in its queue."""

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from celery import current_app
from kombu import Connection, Consumer, Producer, Queue, pools
from redis import Redis

from fleet.models import Host
from telemetry.broker import grouped
from telemetry.message.wire import host_queue
from telemetry.orders import host_orders
from telemetry.orders.host_orders import ForHost
from tests.servers import redis

OPTIONS = {"visibility_timeout": 120, "socket_timeout": 0.5, "socket_connect_timeout": 0.5}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


class Consuming:
    """A consumer of one queue, which may hold `prefetched` messages."""

    def __init__(self, connection, queue, prefetched):
        self.taken, self.connection, self._queue, self.channel = [], connection, queue, connection.channel()
        bound = Queue(queue, channel=self.channel)
        bound.declare()
        self._consumer = Consumer(self.channel, [bound], callbacks=[lambda _, message: self.taken.append(message)])
        self._consumer.qos(prefetch_count=prefetched)
        self._consumer.consume()

    def publish(self, *values):
        for value in values:
            Producer(self.channel).publish({"n": value}, exchange="", routing_key=self._queue, serializer="json")

    def take(self, n):
        """Return what was taken when there are n; raises TimeoutError where they do not come."""
        while len(self.taken) < n:
            self.connection.drain_events(timeout=60)
        return [message.decode()["n"] for message in self.taken]


@contextmanager
def consuming(url, queue, prefetched=4):
    with Connection(
        url, transport="telemetry.broker.redis_transport:Transport", transport_options=OPTIONS
    ) as connection:
        yield Consuming(connection, queue, prefetched)


@contextmanager
def standing_still(url):
    pid = Redis.from_url(url).info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_could_not_be_acknowledged_takes_no_room_from_what_comes(url, caplog):
    with consuming(url, "still") as worker:
        worker.publish(*range(4))
        worker.take(4)
        with standing_still(url):
            grouped.acknowledge(worker.taken, worker.connection.connection_errors)
        assert "4 messages could not be acknowledged" in caplog.text

        worker.publish(4)
        assert worker.take(5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("junk", [b"junk", b"[1]", b'{"a": 1}', b'{"properties": {"delivery_tag": "x"}}', b"\xff"])
@pytest.mark.parametrize("place", [0, 1])
def test_junk_costs_the_messages_that_are_taken_with_it_nothing(url, junk, place, caplog):
    queue = f"junk-{place}-{junk.hex()}"
    with consuming(url, queue) as worker, Redis.from_url(url) as client:
        worker.publish(*range(place))
        client.lpush(queue, junk)
        worker.publish(*range(place, 3))

        assert worker.take(3) == [0, 1, 2]
    assert "what stood in" in caplog.text


def test_orders_of_many_hosts_go_to_redis_in_one_step(url, monkeypatch):
    names = [f"gpu-{number:03}" for number in range(20)]
    orders = [ForHost(Host(name=name), name.encode(), datetime(2099, 1, 1, tzinfo=UTC)) for name in names]
    server, client = Connection(url, transport="telemetry.broker.redis_transport:Transport"), Redis.from_url(url)
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[server])
    host_orders.send_each("host.start_job", orders)  # declares the queues

    before = _reads(client)
    assert host_orders.send_each("host.start_job", orders)

    assert _reads(client) - before < len(names) / 2
    assert {client.llen(host_queue(name)) for name in names} == {2}


def _reads(client):
    """Return how often the server has read from a socket."""
    return client.info("stats")["total_reads_processed"]


def test_what_comes_during_a_rest_waits_until_it_is_asked_for(url):
    with Connection(
        url, transport="telemetry.broker.redis_transport:Transport", transport_options=OPTIONS
    ) as connection:
        worker = Consuming(connection, "resting", 10)
        worker._consumer.callbacks.append(lambda *_: worker.channel.rest(60))
        worker.publish(0)
        worker.take(1)
        worker.publish(1, 2)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.2)
        worker.channel.take_waiting()

        assert worker.take(3) == [0, 1, 2]


def test_a_rest_ends_where_more_waits_than_could_be_taken(url):
    with Connection(
        url, transport="telemetry.broker.redis_transport:Transport", transport_options=OPTIONS
    ) as connection:
        worker = Consuming(connection, "busy", 3)
        worker._consumer.callbacks.append(lambda *_: worker.channel.rest(60))
        worker.publish(*range(5))
        worker.take(3)
        grouped.acknowledge(worker.taken, connection.connection_errors)

        assert worker.take(5) == [0, 1, 2, 3, 4]
