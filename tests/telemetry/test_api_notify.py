"""The API's silences and notification targets: who may, what is refused, what the audit log says."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import AuditEntry, Role
from telemetry.models import NotificationTarget, Silence
from tests.factories import make_host
from tests.people import script

pytestmark = pytest.mark.django_db

SILENCE = {"comment": "new switch", "minutes": 60}
TARGET = {"name": "on call", "kind": "webhook", "address": "https://hooks.example/x", "secret": "s3cret"}


def post(client, path, body):
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def test_an_operator_silences_a_host():
    make_host("gpu-a01")

    answer = post(script(Role.OPERATOR), "silences", SILENCE | {"host": "gpu-a01", "label": "team=vision"})

    assert answer.status_code == 201
    assert {"host": "gpu-a01", "label": "team=vision", "is_active": True}.items() <= answer.json().items()
    assert AuditEntry.objects.get().action == "silence.create"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"comment": "", "minutes": 5}, "comment"),
        ({"comment": "x", "minutes": 0}, "minutes"),
        (SILENCE | {"host": "nobody"}, "host"),
        (SILENCE | {"label": "team"}, "label"),
        (SILENCE | {"label": f"{'k' * 64}=v"}, "label"),
        (SILENCE | {"label": f"k={'v' * 501}"}, "label"),
        (SILENCE | {"colour": "red"}, "colour"),
    ],
)
def test_a_bad_silence_is_refused_by_its_field(body, field):
    answer = post(script(Role.OPERATOR), "silences", body)

    assert answer.status_code in {400, 422}
    assert answer.json()["error"]["field"] == field
    assert not Silence.objects.exists()


def test_a_viewer_sees_silences_and_makes_none():
    client = script(Role.VIEWER)

    assert client.get("/api/v1/silences").json() == {"items": [], "count": 0}
    assert post(client, "silences", SILENCE).status_code == 403


@pytest.mark.parametrize("path", ["silences", "notification-targets", "deliveries"])
def test_nobody_reads_them_without_login(path):
    assert Client().get(f"/api/v1/{path}").status_code == 401


def test_a_silence_ends_once():
    client = script(Role.OPERATOR)
    number = post(client, "silences", SILENCE).json()["id"]

    assert post(client, f"silences/{number}/end", {}).json()["is_active"] is False
    assert post(client, f"silences/{number}/end", {}).status_code == 409
    assert post(client, "silences/999/end", {}).status_code == 404


def test_an_ended_silence_stays_in_the_list():
    past = timezone.now() - timedelta(hours=1)
    Silence.objects.create(comment="x", created_by="anna", starts_at=past, ends_at=past)

    [item] = script(Role.VIEWER).get("/api/v1/silences").json()["items"]
    assert item["is_active"] is False


def test_an_admin_adds_a_target_and_its_secret_is_never_told():
    client = script(Role.ADMIN)

    answer = post(client, "notification-targets", TARGET)

    assert answer.status_code == 201
    assert (answer.json()["has_secret"], answer.json()["last"]) == (True, None)
    assert b"s3cret" not in answer.content + client.get("/api/v1/notification-targets").content


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "file:///etc/passwd"},
        {"address": "https://"},
        {"address": "https://[::1"},
        {"kind": "email", "address": "anna@x.example"},  # no mail server is set
        {"kind": "pager"},
    ],
)
def test_a_target_that_cannot_be_reached_like_that_is_refused(fields):
    answer = post(script(Role.ADMIN), "notification-targets", TARGET | fields)

    assert answer.status_code in {400, 422}
    assert not NotificationTarget.objects.exists()


def test_names_of_targets_are_given_once():
    client = script(Role.ADMIN)
    post(client, "notification-targets", TARGET)

    assert post(client, "notification-targets", TARGET).json()["error"]["code"] == "name_taken"


def test_an_operator_may_not_see_or_change_targets():
    client = script(Role.OPERATOR)

    assert client.get("/api/v1/notification-targets").status_code == 403
    assert post(client, "notification-targets", TARGET).status_code == 403


def test_a_target_is_deleted():
    client = script(Role.ADMIN)
    number = post(client, "notification-targets", TARGET).json()["id"]

    assert client.delete(f"/api/v1/notification-targets/{number}").status_code == 204
    assert client.delete(f"/api/v1/notification-targets/{number}").status_code == 404
