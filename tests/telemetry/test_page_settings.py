"""The settings page: how the store stands, and who sees where alerts are told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import Role
from fleet.tariff import Tariff
from telemetry import upkeep
from telemetry.models import NotificationTarget, SetAside, Silence
from tests.factories import make_host
from tests.people import signed_in

pytestmark = pytest.mark.django_db


def page(role=Role.VIEWER):
    answer = signed_in(role).get("/settings/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_before_the_first_upkeep_it_says_so():
    assert "None has run yet." in page()


def test_it_shows_what_the_tables_hold_and_when_upkeep_runs_next():
    upkeep.keep(timezone.now(), 5)

    shown = page()

    assert "Samples, by device and hour" in shown
    assert "Space given back" in shown
    assert "not scheduled" not in shown


def test_it_shows_what_was_set_aside_and_why():
    SetAside.objects.create(
        host=make_host("gpu-a01"), epoch="0" * 32, sequence=1, start_ms=0, end_ms=0, n_values=2000, body=b"",
        reason="90 s ahead of the server", received_at=timezone.now(),
    )  # fmt: skip

    assert "90 s ahead of the server" in page()


def test_a_price_is_shown_where_it_is_set_and_asked_for_where_not(settings):
    settings.STEPWATT_TARIFF = Tariff(0.31)

    shown = page()

    assert "0.31" in shown
    assert "STEPWATT_PUE is not set" in shown


def test_it_shows_the_silences_that_hold():
    now = timezone.now()
    Silence.objects.create(comment="new switch", created_by="anna", starts_at=now, ends_at=now + timedelta(hours=1))

    assert "new switch" in page()


@pytest.mark.parametrize(("role", "is_shown"), [(Role.ADMIN, True), (Role.OPERATOR, False)])
def test_only_admins_see_where_alerts_are_told(role, is_shown):
    NotificationTarget.objects.create(name="on call", kind="webhook", address="https://hooks.example/secret-path")

    assert ("secret-path" in page(role)) is is_shown
