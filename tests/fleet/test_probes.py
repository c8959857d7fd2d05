"""`/healthz` and `/readyz`, without login."""

from datetime import timedelta

import pytest
from celery import current_app
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone

from fleet.models import Host, Origin


@pytest.fixture
def broker(monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "memory://")
    monkeypatch.setitem(current_app.conf, "broker_transport", "memory")


@pytest.fixture
def no_broker(monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")


def test_healthz_asks_no_database():
    """Without the mark django_db, any query fails the test."""
    response = Client().get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_readyz_tells_the_age_of_the_newest_sample(broker):
    now = timezone.now()
    Host.objects.create(name="a", last_seen_at=now - timedelta(seconds=100))
    Host.objects.create(name="b", last_seen_at=now - timedelta(seconds=5))
    Host.objects.create(name="c", last_seen_at=now, origin=Origin.IMPORTED)

    response = Client().get("/readyz")

    answer = response.json()
    assert response.status_code == 200
    assert 5 <= answer.pop("ingest_lag_seconds") < 60
    assert answer == {"status": "ok", "database": "ok", "broker": "ok"}


@pytest.mark.django_db
def test_readyz_knows_no_lag_before_the_first_sample(broker):
    assert Client().get("/readyz").json()["ingest_lag_seconds"] is None


@pytest.mark.django_db
def test_readyz_says_that_the_broker_is_not_reached(no_broker):
    response = Client().get("/readyz")

    assert response.status_code == 503
    assert response.json() == {
        "status": "failed",
        "database": "ok",
        "broker": "not reached",
        "ingest_lag_seconds": None,
    }


@pytest.mark.django_db
def test_readyz_says_that_the_database_is_not_reached(broker, monkeypatch):
    def fail(*args, **kwargs):
        raise DatabaseError("the disk is gone")

    monkeypatch.setattr("django.db.models.query.QuerySet.aggregate", fail)

    response = Client().get("/readyz")

    assert response.status_code == 503
    assert response.json()["database"] == "not reached"
