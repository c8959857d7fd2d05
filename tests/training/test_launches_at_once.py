"""Two launches at once on PostgreSQL, where several write at a time: the limits hold for both together."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from django.db import transaction
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Host
from tests.databases import default_database, opened
from tests.training.reference_jobs import ready_host
from training.jobs import admission, launch
from training.models import ReferenceJob

OTHER_TURN = 7
MEET_SECONDS = 2


@pytest.fixture
def committed(_migrated, django_db_blocker) -> Iterator[None]:
    """Have the test's database be PostgreSQL, where others see at once what is written; hosts and jobs go afterwards."""
    with django_db_blocker.unblock(), default_database(_migrated):
        yield
        Host.objects.all().delete()
        AuditEntry.objects.all().delete()


def launch_on(url: str, name: str) -> None:
    with opened(url), transaction.atomic():
        launch.prepare("gpt-train", [(name, "")], {}, actor=Actor("ada"), now=timezone.now())


@pytest.mark.parametrize(("turn", "is_free"), [(admission.TURN, False), (OTHER_TURN, True)])
def test_while_one_launch_counts_what_runs_another_waits(on_postgresql, postgresql_url, turn, is_free):
    admission.room()

    with psycopg.connect(postgresql_url) as other:
        assert other.execute("SELECT pg_try_advisory_xact_lock(%s)", [turn]).fetchone() == (is_free,)


def test_two_launches_at_once_do_not_both_take_the_last_place(committed, postgresql_url, monkeypatch, settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    names, meeting, admitted = [ready_host("a").name, ready_host("b").name], threading.Barrier(2), admission._admitted

    def slowly():  # both would stand here at once, having counted none, if neither waited for the other
        found = list(admitted())
        with suppress(threading.BrokenBarrierError):
            meeting.wait(MEET_SECONDS)
        return found

    monkeypatch.setattr(admission, "_admitted", slowly)
    with ThreadPoolExecutor(2) as both:
        list(both.map(launch_on, [postgresql_url] * 2, names))

    held = ReferenceJob.objects.filter(sent_at=None).values_list("reason", flat=True)
    assert list(held) == ["waits: 1 reference job runs, the limit is 1"]
    assert ReferenceJob.objects.exclude(sent_at=None).count() == 1
