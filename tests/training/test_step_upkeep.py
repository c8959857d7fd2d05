"""Joining small chunks of steps, retiring runs, and what a host's removal takes along."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from fleet.models import Origin
from tests.factories import make_host
from tests.training.stored_steps import columns, enter, put
from tests.training.test_step_store import same
from training.models import Run, RunRank, StepChunk
from training.runs import retention
from training.steps.store import compact, read

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_MS = NOW.timestamp() * 1000

pytestmark = pytest.mark.django_db


@pytest.fixture
def run():
    return Run.objects.create(name="llm", launch="l1", host=make_host(), last_step_at=NOW, ends_at=NOW)


def put_parts(run, n_parts, n_steps=10):
    for part in range(n_parts):
        put(run, columns(*[0.1] * n_steps, first_ms=part * 1_000, number=range(part * n_steps, (part + 1) * n_steps)))


def test_many_small_chunks_become_one_with_the_same_steps(run):
    put_parts(run, compact.MANY)
    before = read.steps(run)

    assert compact.compact(NOW, budget_seconds=60) == compact.MANY
    assert StepChunk.objects.get().n_steps == compact.MANY * 10
    same(read.steps(run), before)


def test_few_chunks_of_a_run_that_goes_on_are_left_until_it_is_over(run):
    put_parts(run, 3)

    assert compact.compact(NOW - timedelta(seconds=1), budget_seconds=60) == 0
    assert compact.compact(NOW + timedelta(seconds=1), budget_seconds=60) == 3


def test_a_chunk_holds_no_more_than_it_may(run, monkeypatch):
    monkeypatch.setattr(compact, "MOST_STEPS", 100)
    monkeypatch.setattr(compact, "SMALL", 50)
    put_parts(run, 25)

    compact.compact(NOW + timedelta(seconds=1), budget_seconds=60)

    assert sorted(StepChunk.objects.values_list("n_steps", flat=True)) == [50, 100, 100]


def test_one_that_is_stopped_half_way_changes_nothing(run, monkeypatch):
    put_parts(run, compact.MANY)
    before = read.steps(run)
    monkeypatch.setattr(compact.write, "chunks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        compact.compact(NOW, budget_seconds=60)

    assert StepChunk.objects.count() == compact.MANY
    same(read.steps(run), before)


def test_a_corrupt_chunk_stays_and_the_others_are_joined(run):
    put_parts(run, compact.MANY)
    first = StepChunk.objects.earliest("pk")
    StepChunk.objects.filter(pk=first.pk).update(body=b"what a broken disk left")

    compact.compact(NOW, budget_seconds=60)

    assert sorted(StepChunk.objects.values_list("n_steps", flat=True)) == [10, (compact.MANY - 1) * 10]
    assert bytes(StepChunk.objects.get(pk=first.pk).body) == b"what a broken disk left"


def test_a_run_goes_so_long_after_its_last_step(settings):
    settings.STEPWATT_RETENTION_RUNS = 86_400
    host, imported = make_host(), make_host("log", origin=Origin.IMPORTED)
    for name, of, days in (("old", host, 2), ("new", host, 0.5), ("history", imported, 900)):
        enter(of, columns(1.0, first_ms=NOW_MS - days * 86_400_000), run=name)

    assert retention.retire(NOW, budget_seconds=60) == 1

    assert set(Run.objects.values_list("name", flat=True)) == {"new", "history"}
    assert StepChunk.objects.count() == RunRank.objects.count() == 2


def test_a_run_goes_with_its_last_host():
    one, other = make_host("a"), make_host("b")
    enter(one, columns(1.0), run="mine")
    shared = enter(one, columns(1.0), run="shared")
    enter(other, columns(1.0), run="shared", rank=1, process="p1")

    remove_host(one, Actor("ada"), NOW)

    assert set(Run.objects.values_list("name", flat=True)) == {"shared"}
    assert {(rank.rank, rank.host) for rank in shared.ranks.all()} == {(0, None), (1, other)}
