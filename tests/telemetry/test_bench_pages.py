"""The fleet that the pages' bench makes is one that the pages show."""

import pytest

from fleet.web import shared_answer
from telemetry.bench import pages_store
from tests.people import signed_in

pytestmark = pytest.mark.django_db


def test_the_benchs_fleet_stands_on_the_fleet_page_with_its_month(monkeypatch):
    monkeypatch.setattr(pages_store, "DAYS", 1)
    monkeypatch.setattr(pages_store, "_KEPT_SECONDS", {60: 3600, 900: 86_400, 3600: 86_400})
    pages_store.seed(3)
    pages_store.rolled_up()
    viewer = signed_in()

    assert "24" in viewer.get("/").content.decode()
    assert sum(viewer.get("/fleet/map/").json()["hosts"]["devices"]) == 24
    _, mean, _ = viewer.get("/fleet/arrays/?range=24h").json()["charts"]["fig-utilisation"]["traces"]
    assert [value for value in mean["y"] if value is not None]
    before = viewer.get("/fleet/map/").headers["ETag"]
    pages_store.live(3, 0, 1)
    shared_answer.forget()  # as a second later
    assert viewer.get("/fleet/map/").headers["ETag"] != before
