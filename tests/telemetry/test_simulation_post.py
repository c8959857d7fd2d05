"""The simulated hosts' mail: acknowledgements reach the spool, orders whoever takes them, and nothing else gets anywhere."""

import time

import pytest
from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.message import acknowledgement
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, Acknowledgement
from telemetry.message.envelope import seal_order
from telemetry.message.wire import host_queue
from telemetry.simulation import post as posts
from telemetry.simulation.post import Post
from tests.process.traces import wait_until

SERVER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def mail(tmp_path, monkeypatch):
    """Return what sends an order to a host, and the lists of what was let go of and of what was taken."""
    monkeypatch.setattr(posts, "SWEEP_SECONDS", 0.05)
    app = Celery("post", broker="memory://", set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    let_go, taken = [], []
    server, takers = SERVER.public_key().public_bytes_raw(), {"host.do": taken.append}
    post = Post(app, ["a", "b"], server, tmp_path, lambda *told: let_go.append(told), takers)
    post.start()

    def send(host, epoch, *, task=ACKNOWLEDGE_TASK, key=SERVER, sealed_for=None, sealed=None):
        body = acknowledgement.pack(Acknowledgement(epoch, [(0, 3)], 1, 1, 1))
        order = sealed or seal_order(key, task, sealed_for or host, body, round(time.time() * 1000) + 60_000)
        app.send_task(task, [order], queue=host_queue(host), argsrepr="")

    yield send, let_go, taken
    post.stop()


def test_each_hosts_acknowledgement_is_taken(mail):
    send, let_go, _ = mail
    send("a", "1" * 32)
    send("b", "2" * 32)

    wait_until(lambda: len(let_go) == 2, 60, "both")
    assert sorted(let_go) == [("1" * 32, [(0, 3)]), ("2" * 32, [(0, 3)])]


def test_what_the_server_did_not_sign_for_this_host_and_other_orders_are_passed_over(mail):
    send, let_go, taken = mail
    send("a", "1" * 32, key=Ed25519PrivateKey.generate())
    send("a", "2" * 32, sealed_for="b")
    send("a", "3" * 32, task="host.do_something_else")
    send("a", "5" * 32, task="host.do", key=Ed25519PrivateKey.generate())
    send("a", "6" * 32, task="host.do", sealed_for="b")
    send("a", "4" * 32)

    wait_until(lambda: let_go, 60, "the true one")
    assert (let_go, taken) == ([("4" * 32, [(0, 3)])], [])


def test_an_order_is_handed_over_once_however_often_it_comes(mail):
    send, let_go, taken = mail
    body = acknowledgement.pack(Acknowledgement("1" * 32, [(0, 3)], 1, 1, 1))
    order = seal_order(SERVER, "host.do", "a", body, round(time.time() * 1000) + 60_000)
    send("a", "", task="host.do", sealed=order)
    send("a", "", task="host.do", sealed=order)
    send("a", "4" * 32)

    wait_until(lambda: let_go, 60, "what came last")
    assert taken == [body]
