"""The API's alerts: listed by rule and state, with their evidence, and acknowledged by operators."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import AuditEntry, Event, EventKind, Role, Severity
from telemetry.health import alerts, rules
from telemetry.health.alerts import Found
from telemetry.health.rule import raised
from telemetry.health.seen import Subject
from tests.factories import make_device, make_host
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db


def fire(rule="device_lost", name="gpu-a01", **values):
    """Open an alert of a host's first GPU, which has held for a minute."""
    now = timezone.now()
    device = make_device(make_host(name))
    subject = Subject(f"device:{device.uuid}", device.host_id, device.pk)
    since_ms = int((now - timedelta(minutes=1)).timestamp() * 1000)
    return alerts.open_alert(Found(rules.by_name()[rule], subject, raised("how it stands", values), {}, since_ms), now)


@pytest.fixture
def log():
    """An alert that fires, one that is acknowledged, one that is resolved, and an event that is none."""
    fire("device_lost", "firing")
    noted, over = fire("hot_memory", "noted", memory_temperature_celsius=99.0), fire("device_lost", "over")
    alerts.acknowledge(noted.pk, signed_actor(), timezone.now(), "looking")
    alerts.resolve_alert(over, timezone.now())
    at = timezone.now()
    Event.objects.create(kind=EventKind.XID, severity=Severity.CRITICAL, text="XID 79", first_at=at, last_at=at)


def signed_actor():
    return alerts.Actor("ada")


def hosts(**query):
    body = script().get("/api/v1/events", query).json()
    return sorted(item["host"] or "" for item in body["items"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["", "firing", "noted", "over"]),
        ({"state": "firing"}, ["firing"]),
        ({"state": "acknowledged"}, ["noted"]),
        ({"state": "resolved"}, ["over"]),
        ({"rule": "device_lost"}, ["firing", "over"]),
        ({"rule": "device_lost", "state": "resolved"}, ["over"]),
        ({"kind": "health", "severity": "warning"}, ["noted"]),
    ],
)
def test_alerts_are_found_by_rule_and_state(log, query, expected):
    assert hosts(**query) == expected


def test_an_alert_shows_what_proves_it_and_who_knows_of_it(log):
    item = script().get("/api/v1/events", {"state": "acknowledged"}).json()["items"][0]

    assert (item["rule"], item["state"], item["subject"]) == ("hot_memory", "acknowledged", f"device:{item['device']}")
    assert item["evidence"]["values"] == {"memory_temperature_celsius": 99.0}
    assert item["since"] < item["evidence"]["read_at"]
    assert (item["acknowledged_by"], item["detail"]["comment"]) == ("ada", "looking")
    assert item["detail"]["action"]


def test_an_event_that_is_no_alert_has_no_state(log):
    item = script().get("/api/v1/events", {"kind": "xid"}).json()["items"][0]

    assert [item[name] for name in ("rule", "subject", "state", "since", "evidence", "resolved_at")] == [None] * 6


@pytest.mark.parametrize(
    ("query", "status", "field"), [({"state": "open"}, 400, "state"), ({"rule": "no_such"}, 404, "rule")]
)
def test_a_state_or_rule_that_does_not_exist_is_an_error(query, status, field):
    answer = script().get("/api/v1/events", query)

    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def acknowledge(client, pk, **body):
    return client.post(f"/api/v1/events/{pk}/acknowledge", body, content_type="application/json")


def test_an_operator_acknowledges_an_alert_with_a_comment():
    answer = acknowledge(script(Role.OPERATOR), fire().pk, comment="board is ordered")

    assert (answer.status_code, answer.json()["state"]) == (200, "acknowledged")
    assert answer.json()["acknowledged_by"] == AuditEntry.objects.get().actor == "token:script-operator"
    assert Event.objects.get().detail["comment"] == "board is ordered"


@pytest.mark.parametrize(("client", "status"), [(Client, 401), (script, 403)])
def test_others_acknowledge_nothing(client, status):
    event = fire()

    assert acknowledge(client(), event.pk).status_code == status
    assert Event.objects.get().acknowledged_at is None


@pytest.mark.parametrize(("body", "status"), [({"comment": "x" * 501}, 400), ({"note": "x"}, 400)])
def test_a_bad_acknowledgement_is_refused(body, status):
    answer = acknowledge(script(Role.OPERATOR), fire().pk, **body)

    assert answer.status_code == status
    assert Event.objects.get().acknowledged_at is None


def test_what_is_over_is_a_conflict_and_what_is_not_there_is_not_found():
    event, client = fire(), script(Role.OPERATOR)
    alerts.resolve_alert(event, timezone.now())

    assert acknowledge(client, event.pk).json()["error"]["code"] == "cannot_be_acknowledged"
    assert acknowledge(client, event.pk).status_code == 409
    assert acknowledge(client, event.pk + 1).status_code == 404


def test_the_page_has_the_button_for_operators_alone():
    event = fire()
    path = f"/events/{event.pk}/acknowledge/"

    assert path in signed_in(Role.OPERATOR).get("/events/").content.decode()
    assert path not in signed_in(Role.VIEWER).get("/events/").content.decode()


def test_the_button_acknowledges_and_leads_back_to_the_same_list():
    event = fire()
    answer = signed_in(Role.OPERATOR).post(f"/events/{event.pk}/acknowledge/?rule=device_lost")

    assert answer["Location"] == "/events/?rule=device_lost"
    assert Event.objects.get().acknowledged_by == "operator"


def test_the_button_answers_with_the_list_where_htmx_asks():
    event = fire()
    page = signed_in(Role.OPERATOR).post(f"/events/{event.pk}/acknowledge/", headers={"HX-Request": "true"})

    assert 'data-alert="acknowledged"' in page.content.decode()
    assert "<html" not in page.content.decode()


def test_the_button_is_refused_to_viewers_and_to_other_sites():
    event = fire()
    client = signed_in(Role.OPERATOR, enforce_csrf_checks=True)

    assert client.post(f"/events/{event.pk}/acknowledge/").status_code == 403
    assert signed_in(Role.VIEWER).post(f"/events/{event.pk}/acknowledge/").status_code == 403
    assert Event.objects.get().acknowledged_at is None


def test_what_is_open_stands_before_what_is_newer():
    fire("hot_memory", "noted")
    fire("device_lost", "firing")
    at = timezone.now() + timedelta(minutes=5)
    Event.objects.create(kind=EventKind.XID, severity=Severity.CRITICAL, text="XID newest", first_at=at, last_at=at)
    page = signed_in().get("/events/").content.decode()

    assert page.index("Device lost") < page.index("Hot memory") < page.index("XID newest")


def test_the_page_says_what_to_do_and_with_which_limits():
    fire("hot_memory", memory_temperature_celsius=99.0)
    page = signed_in().get("/events/").content.decode().replace("\N{NARROW NO-BREAK SPACE}", " ")

    assert "what to do: check its cooling" in page
    assert "Memory temperature 99 °C" in page
