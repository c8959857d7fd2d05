"""Steps and job reports from the agents."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Host
from telemetry.wire import MessageInvalid
from training import wire
from training.ingest import ingest_report, ingest_steps, reference_launch
from training.models import JobState, ReferenceJob, Run, Step
from training.wire import JobReport, StepTiming

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    return Host.objects.create(name="gpu-a01")


@pytest.fixture
def job(host):
    return ReferenceJob.objects.create(
        launch="ab",
        workload="gpt-train",
        host=host,
        time_limit_seconds=600,
        requested_by="admin",
        expires_at=NOW + timedelta(minutes=10),
    )


def steps(launch: str, count: int = 3) -> list[StepTiming]:
    return [StepTiming("gpt-train", launch, n, NOW_MS + n * 100, 0.1, samples=8, loss=5.0 - n) for n in range(count)]


def report(job: ReferenceJob, **fields) -> bytes:
    base = JobReport(
        job=job.pk,
        host=job.host.name,
        sequence=1,
        state="running",
        at_ms=NOW_MS,
        stage="measure",
        step=3,
        total_steps=40,
    )
    return wire.pack(replace(base, **fields))


def test_steps_make_a_run_and_are_stored_once(host):
    message = wire.pack_steps("gpu-a01", steps("launch-1"))

    ingest_steps(message)
    ingest_steps(message)

    run = Run.objects.get()
    assert (run.name, run.host, run.steps.count()) == ("gpt-train", host, 3)
    assert run.last_step_at == datetime.fromtimestamp((NOW_MS + 200) / 1000, UTC)


def test_steps_of_a_reference_job_belong_to_it(job):
    ingest_steps(wire.pack_steps("gpu-a01", steps(reference_launch(job.pk))))

    job.refresh_from_db()
    assert job.run == Run.objects.get()


def test_another_host_cannot_put_steps_into_a_job(job):
    Host.objects.create(name="gpu-a02")

    ingest_steps(wire.pack_steps("gpu-a02", steps(reference_launch(job.pk))))

    job.refresh_from_db()
    assert job.run is None


def test_steps_of_a_diverged_loop_are_kept_without_their_loss(host):
    diverged = replace(steps("x", 1)[0], loss=float("nan"))

    ingest_steps(wire.pack_steps("gpu-a01", [diverged]))

    assert Step.objects.get().loss is None


def test_a_step_that_took_no_time_is_refused(host):
    with pytest.raises(MessageInvalid, match="seconds"):
        ingest_steps(wire.pack_steps("gpu-a01", [replace(steps("x", 1)[0], seconds=0)]))


def test_a_report_moves_the_job_on(job):
    assert ingest_report(report(job, log="hello"), NOW)

    job.refresh_from_db()
    assert (job.state, job.stage, job.step, job.log, job.heard_at) == ("running", "measure", 3, "hello", NOW)


def test_an_older_or_repeated_report_changes_nothing(job):
    ingest_report(report(job, sequence=5, state="done", result={"samples": 1}), NOW)

    assert not ingest_report(report(job, sequence=4, state="running"), NOW)
    assert not ingest_report(report(job, sequence=5, state="running"), NOW)
    job.refresh_from_db()
    assert (job.state, job.result) == (JobState.DONE, {"samples": 1})


def test_a_lost_job_that_was_finished_all_the_same_is_done(job):
    ReferenceJob.objects.update(state=JobState.LOST, ended_at=NOW)

    assert ingest_report(report(job, state="done"), NOW)
    job.refresh_from_db()
    assert job.state == JobState.DONE


def test_a_cancelled_job_does_not_run_again(job):
    ReferenceJob.objects.update(state=JobState.CANCELLED)

    assert not ingest_report(report(job, state="running"), NOW)


def test_another_host_cannot_speak_of_a_job(job):
    Host.objects.create(name="gpu-a02")

    assert not ingest_report(report(job, host="gpu-a02", state="done"), NOW)


@pytest.mark.parametrize("fields", [{"state": "finished"}, {"host": "unknown"}, {"sequence": -1}])
def test_a_report_that_does_not_fit_is_refused(job, fields):
    with pytest.raises(MessageInvalid):
        ingest_report(report(job, **fields), NOW)
