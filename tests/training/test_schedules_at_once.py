"""Two people who give one name to two schedules at the same moment: one is kept, the other is told."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Role
from tests.databases import default_database, opened
from tests.people import script
from training.jobs import schedules
from training.jobs.schedules import Plan, ScheduleInvalid
from training.jobs.selection import Selection
from training.models import Schedule

MEET_SECONDS = 2
PLAN = Plan("nightly", "gpt-train", Selection(model="board"), "0 3 * * *")
ORDER = {"name": "nightly", "workload": "gpt-train", "model": "board", "cron": "0 3 * * *"}
JSON = "application/json"


@pytest.fixture
def rival(monkeypatch):
    """Have somebody else keep one of the name as soon as it was seen to be free."""
    checked = schedules._checked

    def then_the_other(plan, now, *own):
        fields = checked(plan, now, *own)
        Schedule.objects.get_or_create(name=fields["name"], defaults={"workload": "gpt-train", "created_by": "bob"})
        return fields

    monkeypatch.setattr(schedules, "_checked", then_the_other)


@pytest.mark.django_db
def test_the_second_of_two_is_refused_with_the_field(rival):
    answer = script(Role.OPERATOR).post("/api/v1/reference/schedules", ORDER, JSON)

    assert answer.status_code == 400
    assert answer.json()["error"] == {"code": "invalid", "message": "'nightly' is taken", "field": "name"}
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db
def test_one_that_takes_the_name_of_another_is_refused_and_stays(rival):
    kept = Schedule.objects.create(name="weekly", workload="gpt-train", created_by="ada")

    answer = script(Role.OPERATOR).put(f"/api/v1/reference/schedules/{kept.pk}", ORDER, JSON)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "name")
    kept.refresh_from_db()
    assert kept.name == "weekly"


@pytest.mark.django_db
def test_one_that_was_removed_meanwhile_is_not_changed():
    kept = schedules.keep(PLAN, actor=Actor("ada"), now=timezone.now())
    Schedule.objects.all().delete()

    with pytest.raises(ScheduleInvalid, match="'nightly' was removed meanwhile"):
        schedules.change(kept, PLAN, actor=Actor("ada"), now=timezone.now())


@pytest.fixture
def committed(_migrated, django_db_blocker) -> Iterator[None]:
    """Have the test's database be PostgreSQL, where two write at once; what they wrote goes afterwards."""
    with django_db_blocker.unblock(), default_database(_migrated):
        yield
        Schedule.objects.all().delete()
        AuditEntry.objects.all().delete()


def test_of_two_at_once_on_postgresql_one_is_kept_and_one_is_told(committed, postgresql_url, monkeypatch):
    meeting, checked = threading.Barrier(2), schedules._checked

    def both_see_it_free(*arguments):
        fields = checked(*arguments)
        with suppress(threading.BrokenBarrierError):
            meeting.wait(MEET_SECONDS)
        return fields

    def keep(by: str) -> str:
        with opened(postgresql_url):
            try:
                return schedules.keep(PLAN, actor=Actor(by), now=timezone.now()).name
            except ScheduleInvalid as error:
                return str(error)

    monkeypatch.setattr(schedules, "_checked", both_see_it_free)
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(keep, ["ada", "bob"]))

    assert sorted(answers) == ["'nightly' is taken", "nightly"]
    assert Schedule.objects.count() == AuditEntry.objects.count() == 1
