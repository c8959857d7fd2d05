"""Fixtures for all tests."""

from datetime import timedelta

import hypothesis
import pytest
from django.conf import settings
from django.core.cache import caches

from fleet.celery import app
from fleet.web import shared_answer
from telemetry.newest import glance
from telemetry.series import trends
from training.efficiency import work as efficiency
from training.runs import summaries
from training.views import runs

pytest_plugins = ["tests.grouping", "tests.nvml_stub.fixtures", "tests.stack", "tests.databases"]

# How quick an example is depends on what else the machine does. Where CI is set, hypothesis itself has the examples be the same
# each time, which this keeps.
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords() -> None:
    """Hash passwords weakly: their strength is Django's to test, and costs 0.2 s each."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _nothing_kept_of_before() -> None:
    """Tests write over each other's rows, and what a process knows of the fleet or has worked out it keeps by their keys."""
    glance.of_this_process.cache_clear()
    shared_answer.forget()
    for each in caches.all(initialized_only=True):
        each.clear()
    app.set_current()  # an agent's app that a test has made is that one's


@pytest.fixture(autouse=True)
def _seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test changes its next page shows."""
    monkeypatch.setattr(glance, "SEEN_AGAIN", timedelta(0))
    monkeypatch.setattr(trends, "SEEN_AGAIN_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page leaves for the next time what it has no time for: on a busy machine that is anything."""
    for place in (efficiency, summaries):
        monkeypatch.setattr(place, "_BUDGET_SECONDS", 600.0)
    for seconds in ("_PAGE_SECONDS", "_FRAGMENT_SECONDS"):
        monkeypatch.setattr(runs, seconds, 600.0)
