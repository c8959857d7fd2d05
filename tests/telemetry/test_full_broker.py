"""A broker that refuses every write for a while, with a real Redis: the worker's reading is a lost connection, not its end."""

import time

import pytest
from kombu import Connection
from kombu.asynchronous import Hub
from redis import Redis
from redis.exceptions import ConnectionError as ConnectionLost

from telemetry.broker import full_broker
from tests.servers import redis as redis_server


@pytest.fixture
def broker(tmp_path):
    with redis_server(tmp_path) as url:
        yield url


def drain(url):
    with Connection(url, transport=full_broker.Transport) as connection, connection.SimpleQueue("q") as queue:
        return queue.get(block=True, timeout=60)


def test_a_broker_that_refuses_is_a_lost_connection_after_a_pause(broker):
    admin = Redis.from_url(broker)
    admin.acl_setuser("default", enabled=True, commands=["-brpop"], keys=["*"], passwords=["+geheim"])
    begun = time.monotonic()

    with pytest.raises(ConnectionLost, match="the broker refuses"):
        drain(broker)

    assert time.monotonic() - begun >= full_broker.PAUSE_SECONDS
    assert ConnectionLost in full_broker.Transport.connection_errors


def test_a_message_comes_as_ever_where_nothing_is_refused(broker):
    with Connection(broker) as sender, sender.SimpleQueue("q") as queue:
        queue.put({"n": 1})

    assert drain(broker).payload == {"n": 1}


def test_a_worker_that_waits_is_silent_for_seconds(broker):
    hub, admin = Hub(), Redis.from_url(broker)
    with Connection(broker, transport=full_broker.Transport) as connection, connection.SimpleQueue("q") as queue:
        queue.consumer.consume()
        connection.register_with_event_loop(hub)
        timers = [timer for timer in hub.timer.queue if not timer.entry.canceled]
        until = time.monotonic() + full_broker.WAIT_SECONDS - 2
        hub.call_later(full_broker.WAIT_SECONDS - 2, lambda: None)
        while time.monotonic() < until:
            hub.run_once()
    hub.close()

    assert all(timer.eta > until for timer in timers)
    assert admin.info("commandstats")["cmdstat_brpop"]["calls"] == 1
