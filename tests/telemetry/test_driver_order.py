"""Letting go of a host's driver and taking it up again: by the button, by the API, and what refuses it."""

from datetime import timedelta
from unittest.mock import Mock

import msgpack
import pytest
from celery import current_app
from django.db import connection
from django.test import Client
from django.utils import timezone
from kombu import Connection, pools

from fleet.joining import server_key
from fleet.models import AuditEntry, DeviceKind, Host, Origin, Role
from telemetry.message import envelope
from telemetry.models import LatestState
from telemetry.orders import driver
from tests.factories import GPU_READINGS, make_device, make_host, make_latest
from tests.people import script, signed_in
from tests.training.outbox import outbox

__all__ = ["outbox"]
pytestmark = pytest.mark.django_db

PATH, API = "/hosts/gpu-a01/driver/", "/api/v1/hosts/gpu-a01/driver"


@pytest.fixture(autouse=True)
def host():
    found = make_host("gpu-a01", public_key=b"k" * 32)
    make_latest(found, {make_device(found): GPU_READINGS})
    return found


def ask(client, **order):
    answer = client.post(API, order, content_type="application/json")
    return answer.status_code, answer.json()


def refusal(answer):
    status, body = answer
    return status, body["error"]["code"]


def test_the_button_sends_a_signed_order_with_its_minutes_and_who_asked(outbox):
    signed_in(Role.OPERATOR).post(PATH, {"action": "release", "minutes": "15"})

    [(task, payload)] = outbox.sealed("gpu-a01")
    order = envelope.read(payload)
    assert task == "host.release_driver"
    assert msgpack.unpackb(order.verify(task, server_key.public_bytes())) == {"minutes": 15, "by": "operator"}
    assert order.expires_ms <= (timezone.now() + timedelta(minutes=1)).timestamp() * 1000


def test_the_api_sends_the_same_order(outbox):
    status, body = ask(script(Role.OPERATOR), action="resume")

    assert (status, body) == (200, {"host": "gpu-a01", "action": "resume", "minutes": 10})
    assert [task for task, _ in outbox.sealed("gpu-a01")] == ["host.resume_driver"]


def test_an_order_is_audited(outbox):
    ask(script(Role.OPERATOR), action="release", minutes=5)

    entry = AuditEntry.objects.get(action="driver.release")
    assert (entry.actor, entry.subject, entry.detail) == ("token:script-operator", "gpu-a01", {"minutes": 5})


def test_the_page_asks_before_it_lets_go():
    page = signed_in(Role.OPERATOR).get("/hosts/gpu-a01/?confirm=release").content.decode()

    assert "Let go of the driver on gpu-a01?" in page
    assert 'name="minutes"' in page


def test_a_host_that_let_go_offers_to_take_it_up_again(host):
    LatestState.objects.all().delete()
    make_latest(host, {host.devices.get(): {}}, {host.devices.get(): {"power_draw_watts": "released"}})

    page = signed_in(Role.OPERATOR).get("/hosts/gpu-a01/").content.decode()
    assert "Take it up again" in page
    assert "Let go of the driver" not in page


def test_a_viewer_has_no_button_and_may_not_order(outbox):
    client = signed_in(Role.VIEWER)

    assert "Let go of the driver" not in client.get("/hosts/gpu-a01/?confirm=release").content.decode()
    assert client.post(PATH, {"action": "release", "minutes": "5"}).status_code == 403
    assert refusal(ask(script(Role.VIEWER), action="release")) == (403, "forbidden")
    assert outbox.sealed("gpu-a01") == []


def test_a_stranger_may_not_order(outbox):
    assert Client().post(PATH, {"action": "release", "minutes": "5"}).url.startswith("/login/")
    assert refusal(ask(Client(), action="release")) == (401, "unauthenticated")
    assert outbox.sealed("gpu-a01") == []


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"action": "explode"},
        {"action": "release", "minutes": 0},
        {"action": "release", "minutes": 241},
        {"action": "release", "minuets": 5},
    ],
)
def test_an_order_that_cannot_be_understood_is_refused(outbox, order):
    assert refusal(ask(script(Role.OPERATOR), **order)) == (400, "invalid")
    assert outbox.sealed("gpu-a01") == []


@pytest.mark.parametrize("form", [{}, {"action": "explode", "minutes": "5"}, {"action": "release", "minutes": "five"}])
def test_a_form_that_cannot_be_understood_is_refused(outbox, form):
    assert signed_in(Role.OPERATOR).post(PATH, form).status_code == 400
    assert outbox.sealed("gpu-a01") == []


def test_a_form_out_of_bounds_is_answered_in_words(outbox):
    page = signed_in(Role.OPERATOR).post(PATH, {"action": "release", "minutes": "999"}, follow=True)

    assert "Nothing was sent: minutes: expected 1 to 240, found 999." in page.content.decode()
    assert outbox.sealed("gpu-a01") == []


def test_an_unknown_host_is_refused():
    answer = script(Role.OPERATOR).post(
        "/api/v1/hosts/nobody/driver", {"action": "release"}, content_type="application/json"
    )

    assert (answer.status_code, answer.json()["error"]["field"]) == (404, "name")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"public_key": b""}, "has no driver that an agent could let go of"),
        ({"origin": Origin.SIMULATED}, "has no driver that an agent could let go of"),
        ({"heard_at": timezone.now() - timedelta(hours=1)}, "is silent"),
    ],
)
def test_a_host_that_cannot_hear_is_not_asked(outbox, change, words):
    Host.objects.update(**change)
    status, body = ask(script(Role.OPERATOR), action="release")

    assert (status, body["error"]["code"]) == (409, "cannot_be_asked")
    assert words in body["error"]["message"]
    assert outbox.sealed("gpu-a01") == []


def test_a_host_without_a_driver_to_let_go_of_is_not_asked(outbox, host):
    host.devices.update(kind=DeviceKind.CPU)

    assert refusal(ask(script(Role.OPERATOR), action="release")) == (409, "cannot_be_asked")


def test_the_log_says_of_an_order_that_the_broker_did_not_take_it(monkeypatch):
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[Connection("redis://127.0.0.1:1/0")])

    assert refusal(ask(script(Role.OPERATOR), action="release")) == (503, "broker_unreachable")
    told = AuditEntry.objects.filter(action__startswith="driver.").order_by("pk").values_list("action", "detail")
    assert list(told) == [("driver.release", {"minutes": 10}), ("driver.not_sent", {"order": "driver.release"})]


def test_an_order_goes_out_after_the_commit_of_its_entry(monkeypatch):
    of_the_test, seen = len(connection.savepoint_ids), []
    send = Mock(side_effect=lambda *_: seen.append((len(connection.savepoint_ids), AuditEntry.objects.count())) or True)
    monkeypatch.setattr(driver.host_orders, "send", send)
    before = AuditEntry.objects.count()

    assert ask(script(Role.OPERATOR), action="release")[0] == 200
    assert seen == [(of_the_test, before + 1)]
