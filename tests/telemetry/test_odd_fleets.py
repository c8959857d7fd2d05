"""Fleets without this or that, with odd names and odd clocks: upkeep goes through, and every page, file and endpoint answers.

No answer shows a figure that is none. Which fleets: tests/odd_fleets.py; which answers: tests/walk.py.
"""

import io
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Role
from telemetry import rollups
from telemetry.exposition.own_names import Names
from telemetry.exposition.scrape import Fleet, Wanted
from telemetry.health.watch import watch
from telemetry.models import DirtyGroup, DirtyRollup, EnergyPrice
from telemetry.notify.deliver import deliver
from telemetry.store import compact
from tests import walk
from tests.odd_fleets import FLEETS
from tests.people import signed_in

FREE = {
    "price_per_kwh": 0.0,
    "currency": "EUR",
    "bands": "Europe/Berlin sat 00:00-12:00 0.31",
    "grams_co2_per_kwh": 0.0,
    "pue": 1.0,
}


def keep(now: datetime) -> None:
    """Do the upkeep now and two days later, when all is over; both see to every part."""
    for then in (now, now + timedelta(days=2)):
        for seconds in (0, 60):
            watch(then + timedelta(seconds=seconds))
        deliver(then)
        rollups.roll_up(60, then)
        rollups.join(60, then)
        compact.compact(then, 60)


@pytest.mark.parametrize("name", ["no power", "each lacks one", "odd names", "clock jumps", "nothing in all"])
def test_upkeep_goes_through_and_the_store_is_whole(each_database, name):
    now = datetime.now(UTC)
    FLEETS[name](int(now.timestamp() * 1000))
    keep(now)
    told = io.StringIO()
    call_command("verify_store", stdout=told)

    assert "0 differences" in told.getvalue()
    assert not DirtyRollup.objects.exists()
    assert not DirtyGroup.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("name", FLEETS)
def test_upkeep_leaves_nothing_undone(name):
    now = datetime.now(UTC)
    FLEETS[name](int(now.timestamp() * 1000))
    keep(now)

    assert not DirtyRollup.objects.exists()
    assert not DirtyGroup.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("name", FLEETS)
def test_every_answer_is_one(name):
    client, now_ms = signed_in(Role.ADMIN), int(time.time() * 1000)
    EnergyPrice.objects.create(**FREE)
    FLEETS[name](now_ms)
    watch(datetime.now(UTC))
    rollups.roll_up(60)

    assert [flaw for path in walk.paths(now_ms) for flaw in walk.flaws(client, path)] == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", FLEETS)
def test_what_is_scraped_can_be_read(name):
    FLEETS[name](int(time.time() * 1000))
    told = {
        (names, form): Fleet()
        .document(Wanted((names,), openmetrics=form is read_openmetrics), datetime.now(UTC))
        .decode()
        for names in Names
        for form in (read_text, read_openmetrics)
    }

    for (_, form), body in told.items():
        values = [sample.value for family in form(body) for sample in family.samples]
        assert all(value == value for value in values)  # noqa: PLR0124  NaN is not itself
