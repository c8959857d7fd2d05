"""Orders as they lie in a host's queue: signed by the server, for one host, one task and a time."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import current_app
from kombu import Connection, pools

from fleet.joining import server_key
from fleet.models import Host
from telemetry.message import envelope
from telemetry.message.envelope import SignatureInvalid
from telemetry.orders import host_orders
from tests.training.outbox import outbox

__all__ = ["outbox"]

EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)
HOST = Host(name="gpu-a01")


def order(outbox) -> envelope.Envelope:
    assert host_orders.send("host.start_job", HOST, b"body", EXPIRES)
    [(task, payload)] = outbox.sealed("gpu-a01")
    assert task == "host.start_job"
    return envelope.read(payload)


def test_an_order_is_signed_by_the_servers_key(outbox):
    found = order(outbox)

    assert found.verify("host.start_job", server_key.public_bytes()) == b"body"
    assert (found.host, found.expires_ms) == ("gpu-a01", int(EXPIRES.timestamp() * 1000))


def test_an_order_is_none_for_another_task(outbox):
    with pytest.raises(SignatureInvalid):
        order(outbox).verify("host.cancel_job", server_key.public_bytes())


def test_the_same_order_sent_again_is_another_message(outbox):
    assert order(outbox).nonce != order(outbox).nonce


def test_the_server_is_known_by_the_fingerprint_that_hosts_compute():
    assert server_key.fingerprint() == envelope.fingerprint(server_key.public_bytes())


def test_the_broker_may_drop_an_order_that_expired_and_the_hosts_worker_may_not(outbox):
    """A host whose clock is ahead must come to see it: its order desk says so."""
    host_orders.send("host.start_job", HOST, b"body", datetime.now(UTC) + timedelta(minutes=1))

    [message] = outbox.messages("gpu-a01")
    assert message.headers["expires"] is None
    assert 50_000 < int(message.properties["expiration"]) <= 60_000


def test_without_a_broker_the_caller_hears_of_it(monkeypatch, caplog):
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[Connection("redis://127.0.0.1:1/0")])

    assert not host_orders.send("host.start_job", HOST, b"body", EXPIRES)

    assert "host.start_job for gpu-a01 was not sent" in caplog.text
