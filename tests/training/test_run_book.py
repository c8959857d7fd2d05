"""Two workers that add steps of one process, or of one run, at the same moment: on PostgreSQL, as SQLite has one worker."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import transaction

from fleet.models import Host
from tests.databases import connection_with, default_database, opened
from tests.training.stored_steps import columns, enter
from training.models import Run, RunRank
from training.steps.store import read

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)


@pytest.fixture(scope="module")
def migrated(databases, django_db_blocker) -> str:
    """Return the URL of a database without a row."""
    url = databases.make()
    with django_db_blocker.unblock(), opened(url):
        call_command("migrate", verbosity=0, interactive=False)
    return url


@pytest.fixture
def database(databases, migrated, django_db_blocker):
    """Have the test's database be a copy of that; returns its connection."""
    with django_db_blocker.unblock(), opened(databases.make(like=migrated)) as connection:
        yield connection


@pytest.fixture
def host(database):
    return Host.objects.create(name="gpu-a01")


@pytest.fixture
def at_once(database):
    """Return what does two things, each in a transaction of its own: the second begins before the first is committed."""

    def other(second, has_entered):
        connection = connection_with(dict(database.settings_dict))
        with default_database(connection):
            has_entered.wait(30)
            second()
        connection.close()

    def both(first, second):
        has_entered = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                waiting = pool.submit(other, second, has_entered)
                first()
                has_entered.set()
                with pytest.raises(TimeoutError):  # it waits for the first one's end
                    waiting.result(timeout=0.5)
            waiting.result(timeout=30)

    return both


def test_sums_of_a_process_count_what_both_bring(host, at_once):
    enter(host, columns(1.0, samples=[8]), newest_sequence=0)

    at_once(
        lambda: enter(host, columns(1.0, 1.0, samples=[8, 8]), newest_sequence=2),
        lambda: enter(host, columns(1.0, samples=[8]), newest_sequence=3),
    )

    rank = RunRank.objects.get()
    assert (rank.n_frames, rank.n_steps, rank.samples, rank.newest_sequence, rank.n_lost) == (4, 4, 32, 3, 0)
    assert len(read.steps(rank.run)) == 4


def test_two_processes_of_one_rank_that_come_at_once_are_two_attempts(host, at_once):
    enter(host, columns(1.0), rank=1, process="other")

    at_once(
        lambda: enter(host, columns(1.0), process="p0"),
        lambda: enter(host, columns(1.0), process="p1"),
    )

    run = Run.objects.get()
    assert sorted(run.ranks.filter(rank=0).values_list("attempt", "process")) == [(0, "p0"), (1, "p1")]
    assert run.restarts == 1


def test_a_run_that_two_hosts_tell_of_first_at_the_same_moment_is_one(host, at_once):
    other = Host.objects.create(name="gpu-a02")

    at_once(lambda: enter(host, columns(1.0)), lambda: enter(other, columns(1.0), rank=1, process="p1"))

    assert {rank.host.name for rank in Run.objects.get().ranks.all()} == {"gpu-a01", "gpu-a02"}
