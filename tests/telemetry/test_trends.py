"""What a trend over the fleet asks of the database besides the series, and how soon it sees a fleet that has changed."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from telemetry.series import trends
from tests.factories import make_gpu_host

pytestmark = pytest.mark.django_db

DAY_MS = 86_400_000


def n_queries():
    with CaptureQueriesContext(connection) as asked:
        trends.trend("power_draw_watts", 0, DAY_MS, 1500)
    return len(asked)


def test_the_charts_of_a_page_ask_once_which_groups_there_are(monkeypatch):
    make_gpu_host("gpu-a01", 1)
    monkeypatch.setattr(trends, "SEEN_AGAIN_SECONDS", 60.0)

    first = n_queries()

    assert n_queries() == first - 2


def test_what_a_fleet_counts_is_seen_again_when_that_time_is_over():
    make_gpu_host("gpu-a01", 1)

    assert n_queries() == n_queries()
