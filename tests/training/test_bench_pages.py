"""The results and runs that the pages' bench makes are ones that the pages show."""

import pytest
from django.core.cache import cache

from telemetry.bench import pages_store as fleet
from tests.people import signed_in
from tests.training.pages import text
from training.bench import pages_store

pytestmark = pytest.mark.django_db


def test_the_benchs_results_and_runs_stand_on_their_pages():
    fleet.seed(3)
    pages_store.results()
    pages_store.runs(3, 1)
    viewer = signed_in()

    assert len(viewer.get("/reference/standing/").json()["deviation"]["id"]) == 24
    assert "4 runs" in text(viewer.get("/efficiency/work/?range=7d&by=run"))
    cache.clear()
    page = text(viewer.get("/runs/"))
    assert "going-0" in page
    assert "run-2" in page
    assert "going-0" in text(viewer.get("/hosts/?sort=-job"))
    assert viewer.get("/reference/").status_code == 200
