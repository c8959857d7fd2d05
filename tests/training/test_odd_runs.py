"""Odd runs and reference jobs: upkeep goes through, and every page, file and endpoint answers without a figure that is none.

Which runs: odd_runs.py; which jobs: odd_jobs.py; what no answer may hold: tests/walk.py.
"""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Host, Role
from telemetry.exposition.own_names import Names
from telemetry.exposition.scrape import Fleet, Wanted
from tests import walk
from tests.people import signed_in
from tests.training.odd_jobs import JOBS
from tests.training.odd_runs import RUNS
from training.jobs import ladder_runs, visits, watch
from training.judging import judge, suspicion
from training.models import LadderRun, ReferenceJob, Run
from training.runs import measures, retention
from training.steps.store import compact

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]

OF_RUN = ("/runs/{0}/", "/runs/{0}/ fragment", "/runs/{0}/?range=7d", "/runs/{0}/why/", "/runs/{0}/arrays/", "/runs/{0}/steps/",
          "/runs/{0}/ranks/", "/runs/{0}/ranks/?format=csv", "/runs/{0}/compare/?with={0}", "/api/v1/runs/{0}",
          "/api/v1/runs/{0}/steps", "/api/v1/runs/{0}/steps?points=2", "/api/v1/runs/{0}/ranks")  # fmt: skip
OF_JOB = ("/reference/{0}/", "/reference/{0}/ fragment", "/reference/{0}/verdict/", "/reference/{0}/steps/",
          "/api/v1/reference/jobs/{0}", "/api/v1/reference/jobs/{0}/steps")  # fmt: skip
OF_LADDER = ("/reference/ladders/{0}/", "/api/v1/reference/ladders/{0}")
OF_RUNS = ("/", "/runs/", "/runs/?format=csv", "/runs/headlines/", "/efficiency/work/?range=24h&by=run", "/api/v1/runs",
           "/api/v1/runs/energy", "/runs/running/?host={0}")  # fmt: skip
OF_JOBS = ("/efficiency/hardware/", "/efficiency/hosts/", "/reference/", "/reference/matrix/", "/reference/standing/",
           "/reference/results.csv", "/reference/ladders/", "/api/v1/reference/jobs", "/api/v1/reference/results",
           "/reference/hosts/{0}/", "/reference/marks/?host={0}")  # fmt: skip


def paths() -> list[str]:
    """Return what can be asked of the runs, jobs and ladders that stand in the database."""
    host = list(Host.objects.values_list("name", flat=True)[:1]) or ["none"]
    jobs = ReferenceJob.objects.values_list("pk", flat=True)
    whose = (
        (OF_RUN, Run.objects.values_list("pk", flat=True)),
        (OF_JOB, jobs),
        (OF_LADDER, LadderRun.objects.values_list("pk", flat=True)),
        (OF_JOBS if jobs else OF_RUNS, host),
    )
    found = [path.format(each) for of, every in whose for each in every for path in of]
    return [path for path in found if "none" not in path]


def keep(now: datetime) -> None:
    """Judge the jobs and do the upkeep of runs, now and when all is over."""
    for job in judge.waiting(now):
        suspicion.open_suspicion(judge.judge(job, now), now)
    for then in (now, now + timedelta(days=2)):
        for part in (suspicion.follow, ladder_runs.follow, visits.follow, watch.watch):
            part(then)
        for measure in (measures.measure, compact.compact, retention.retire):
            measure(then, 60)


def flaws(client: Client) -> list[str]:
    return [flaw for path in paths() for flaw in walk.flaws(client, path)]


@pytest.mark.parametrize("name", RUNS)
def test_of_every_run_every_answer_is_one(name):
    RUNS[name](int(time.time() * 1000))
    measures.measure(datetime.now(UTC), 60)
    assert flaws(signed_in(Role.ADMIN)) == []


@pytest.mark.parametrize("name", RUNS)
def test_upkeep_of_every_run_goes_through_and_it_can_be_scraped(name):
    RUNS[name](int(time.time() * 1000))
    keep(datetime.now(UTC))
    told = Fleet().document(Wanted((Names.STEPWATT,)), datetime.now(UTC)).decode()

    values = [sample.value for family in read_text(told) for sample in family.samples]
    assert all(value == value for value in values)  # noqa: PLR0124  NaN is not itself


@pytest.mark.parametrize("name", JOBS)
def test_of_every_job_every_answer_is_one_once_it_is_judged(name):
    client, now = signed_in(Role.ADMIN), datetime.now(UTC)
    JOBS[name](now)
    keep(now)

    assert flaws(client) == []
