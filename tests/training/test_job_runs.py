"""When the run of a reference job is over."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import DeviceKind
from tests.training.old_agent import message_of
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.teams import say
from training.jobs.watch import watch
from training.message import wire
from training.message.wire import StepTiming
from training.models import JobState, ReferenceJob, Run
from training.runs.ingest import ingest_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def job():
    """Return a job that runs and has told of steps."""
    found = existing_job(ready_host("a", DeviceKind.CPU), JobState.RUNNING, heard_at=timezone.now())
    take_step(found, 0)
    return found


def take_step(job: ReferenceJob, number: int) -> None:
    now = timezone.now()
    launch = wire.steps_launch(job.pk, job.launch)
    step = StepTiming("gpt-train", launch, number, int(now.timestamp() * 1000), 0.1, loss=4.0)
    assert ingest_message(job.host, message_of(job.host.name, [step]), now) == 1


def is_running() -> bool:
    return Run.objects.get().is_running(timezone.now())


def test_a_run_goes_on_while_its_job_does(job):
    watch(timezone.now())
    assert is_running()


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "lost"])
def test_a_run_is_over_when_its_job_has_ended_however(job, state):
    say(job, state)

    run = Run.objects.get()
    assert not is_running()
    assert run.ends_at == run.last_step_at


def test_the_last_steps_that_come_after_the_jobs_end_leave_its_run_over(job):
    say(job, "done")
    take_step(job, 1)

    assert not is_running()
    assert Run.objects.get().ranks.get().n_steps == 2


def test_a_run_is_over_when_the_server_gives_its_job_up(job):
    now = timezone.now()
    ReferenceJob.objects.update(heard_at=now - timedelta(minutes=1))
    watch(now, up_since=now - timedelta(hours=1))

    assert ReferenceJob.objects.get().state == JobState.LOST
    assert not is_running()


def test_a_job_that_was_given_up_and_speaks_again_has_a_run_that_runs(job):
    say(job, "lost")
    say(job, "running")
    take_step(job, 1)

    assert is_running()


def test_the_run_of_a_host_whose_clock_is_ahead_is_over_too(job):
    Run.objects.update(last_step_at=timezone.now() + timedelta(minutes=2))
    say(job, "done")

    assert not is_running()
