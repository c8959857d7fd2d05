"""Telling people of alerts, through a real web server on this machine."""

import hashlib
import hmac
import json
import socketserver
import threading
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from fleet.models import Event, Severity
from fleet.turns import TurnFailed
from telemetry.models import Delivery
from telemetry.notify import deliver as delivering
from telemetry.notify import send
from telemetry.notify.deliver import AT_ONCE, PAUSES, deliver
from tests.factories import make_device, make_host
from tests.telemetry.told import NOW, alert, resolve, silence, target

pytestmark = pytest.mark.django_db


class Hook:
    """A web server that notes what it is sent, and answers with `status`."""

    def __init__(self):
        self.status, self.reason, self.requests = 200, None, []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append((dict(self.headers), body))
                self.send_response(hook.status, hook.reason)
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def alerts(self):
        return [alert for _, body in self.requests for alert in json.loads(body)["alerts"]]


@pytest.fixture
def hook():
    found = Hook()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_an_open_alert_is_told_once(hook):
    device = make_device(make_host("gpu-a01", cluster="alpha"))
    target(hook.url), alert(f"device:{device.uuid}", host=device.host, device=device)

    assert (deliver(NOW), deliver(NOW + timedelta(hours=1))) == (1, 0)

    [told] = hook.alerts
    assert (told["state"], told["host"], told["device"]) == ("firing", "gpu-a01", device.uuid)
    assert (told["action"], told["evidence"]) == ("look at its agent", {"seconds": 60})


def test_its_end_is_told_to_whoever_was_told_of_it(hook):
    target(hook.url)
    event = alert()
    deliver(NOW)
    resolve(event)

    deliver(NOW + timedelta(minutes=1))

    assert [told["state"] for told in hook.alerts] == ["firing", "resolved"]


def test_the_end_of_a_removed_hosts_alerts_is_told(hook):
    device = make_device(make_host("gpu-a01", cluster="alpha"))
    target(hook.url), alert(f"device:{device.uuid}", host=device.host, device=device)
    deliver(NOW)

    remove_host(device.host, Actor("ada"), NOW)
    deliver(NOW + timedelta(minutes=1))

    _, told = hook.alerts
    assert (told["state"], told["host"], told["cluster"], told["device"]) == (
        "resolved", "gpu-a01", "alpha", device.uuid,
    )  # fmt: skip
    assert told["evidence"] == {"seconds": 60, "resolved": "gpu-a01 was removed"}


def test_an_end_that_waits_to_be_told_outlives_its_host(hook):
    host = make_host("gpu-a01")
    target(hook.url)
    event = alert(host=host)
    deliver(NOW)
    resolve(event)

    remove_host(host, Actor("ada"), NOW + timedelta(minutes=1))
    deliver(NOW + timedelta(minutes=2))

    assert [told["state"] for told in hook.alerts] == ["firing", "resolved"]
    assert datetime.fromisoformat(hook.alerts[1]["resolved_at"]) == NOW


def test_what_nobody_was_told_of_goes_with_its_host(hook):
    host = make_host("gpu-a01")
    alert(host=host)

    remove_host(host, Actor("ada"), NOW)

    assert not Event.objects.filter(rule__gt="").exists()


def test_what_ended_before_it_was_told_is_not_told_at_all(hook):
    target(hook.url)
    hook.status = 503
    event = alert()
    deliver(NOW)
    resolve(event)
    hook.requests.clear()

    assert deliver(NOW + timedelta(hours=1)) == 0
    assert hook.requests == []


def test_a_message_is_signed_with_the_targets_secret(hook):
    target(hook.url, secret="s3cret"), alert()

    deliver(NOW)

    headers, body = hook.requests[0]
    assert headers["X-Stepwatt-Signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


def test_a_failed_delivery_is_tried_again_and_the_log_says_why(hook):
    target(hook.url), alert()
    hook.status = 503
    deliver(NOW)
    failed = Delivery.objects.get()
    hook.status = 200

    assert deliver(NOW + PAUSES[0] - timedelta(seconds=1)) == 0
    assert deliver(NOW + PAUSES[0]) == 1

    assert (failed.attempts, failed.error) == (1, "answered 503 Service Unavailable")
    assert (Delivery.objects.get().attempts, Delivery.objects.get().error) == (2, "")


def test_what_a_stranger_says_is_written_so_that_every_database_keeps_it(hook):
    target(hook.url), alert()
    hook.status, hook.reason = 503, "odd \0\x1b[31m words"

    deliver(NOW)

    assert Delivery.objects.get().error == "answered 503 odd " + 2 * "\N{REPLACEMENT CHARACTER}" + "[31m words"


def test_a_target_that_never_answers_is_given_up(hook):
    target("http://127.0.0.1:1/"), alert()
    at = NOW
    for pause in (*PAUSES, timedelta(0)):
        deliver(at)
        at += pause

    found = Delivery.objects.get()
    assert (found.next_attempt_at, found.attempts) == (None, len(PAUSES) + 1)
    assert found.error.startswith("given up: cannot be reached")


def test_a_redirect_is_no_delivery(hook):
    target(hook.url), alert()
    hook.status = 302

    assert deliver(NOW) == 0


def test_a_target_at_which_something_breaks_keeps_no_other_waiting(hook, monkeypatch):
    target(hook.url, name="a", kind="odd")
    target(hook.url, name="b")
    monkeypatch.setattr(send, "_mail", lambda *_: 1 / 0)
    alert()
    with pytest.raises(TurnFailed, match="ZeroDivisionError"):
        deliver(NOW)

    assert len(hook.alerts) == 1


class _NoHttp(socketserver.BaseRequestHandler):
    """A program of another kind at a webhook's address."""

    def handle(self):
        self.request.recv(65_536)
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_a_target_that_speaks_no_http_fails_alone_and_the_others_are_told(hook):
    with socketserver.TCPServer(("127.0.0.1", 0), _NoHttp) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        target(f"http://127.0.0.1:{server.server_address[1]}/", name="a wrong port"), target(hook.url)
        alert()

        assert deliver(NOW) == 1

    assert "speaks no HTTP: BadStatusLine" in Delivery.objects.get(target__name="a wrong port").error


def test_what_another_worker_has_told_meanwhile_makes_no_empty_message(hook, monkeypatch):
    target(hook.url, name="a"), target(hook.url, name="b"), alert()
    told = []

    def send(to, deliveries):
        told.append((to.name, len(deliveries)))
        if len(told) == 1:
            deliver(NOW)  # the other worker

    monkeypatch.setattr(delivering, "send", send)
    deliver(NOW)

    assert told == [("a", 1), ("b", 1)]


def test_an_alert_below_the_targets_severity_is_not_told(hook):
    target(hook.url, severity=Severity.CRITICAL), alert(severity=Severity.WARNING)

    assert deliver(NOW) == 0


def test_who_is_told_of_grave_alerts_alone_is_told_when_one_becomes_grave(hook):
    target(hook.url, severity=Severity.CRITICAL)
    event = alert(severity=Severity.WARNING)
    deliver(NOW)
    Event.objects.filter(pk=event.pk).update(severity=Severity.CRITICAL)

    assert deliver(NOW + timedelta(minutes=1)) == 1


def test_a_target_that_is_off_is_told_nothing(hook):
    target(hook.url, is_enabled=False), alert()

    assert deliver(NOW) == 0


def test_an_acknowledged_alert_is_not_told_to_a_new_target(hook):
    target(hook.url), alert(acknowledged_at=NOW, acknowledged_by="anna")

    assert deliver(NOW) == 0


def test_a_storm_comes_as_few_messages(hook):
    target(hook.url)
    for number in range(AT_ONCE + 1):
        alert(f"host:{number}")

    assert deliver(NOW) + deliver(NOW) == AT_ONCE + 1
    assert len(hook.requests) == 2


@pytest.mark.parametrize(
    "fields",
    [{}, {"rule": "host_silent"}, {"label_key": "team", "label_value": "vision"}],
)
def test_a_silence_covers_what_it_names(hook, fields):
    target(hook.url), alert(host=make_host(labels={"team": "vision"})), silence(**fields)

    assert deliver(NOW) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"rule": "hot_memory"},
        {"label_key": "team", "label_value": "speech"},
        {"label_key": "owner", "label_value": ""},
        {"ends_at": NOW},
        {"starts_at": NOW + timedelta(minutes=1)},
    ],
)
def test_a_silence_of_something_else_covers_nothing(hook, fields):
    target(hook.url), alert(host=make_host(labels={"team": "vision"})), silence(**fields)

    assert deliver(NOW) == 1


def test_a_silence_of_a_host_covers_its_alerts_only(hook):
    one, other = make_host("a"), make_host("b")
    target(hook.url), alert("host:a", host=one), alert("host:b", host=other), silence(host=one)

    deliver(NOW)

    assert [told["host"] for told in hook.alerts] == ["b"]


def test_an_alert_that_outlives_its_silence_is_told_then(hook):
    target(hook.url), alert(), silence()
    deliver(NOW)

    assert deliver(NOW + timedelta(hours=2)) == 1
