"""Steps and job reports from the agents."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.models import Host
from telemetry.message import envelope
from telemetry.message.wire import MessageInvalid
from tests.training.old_agent import message_of
from training.jobs.ingest import ingest_report, ingest_reports
from training.judging.judge import judge, waiting
from training.message import wire
from training.message.wire import JobReport, StepTiming
from training.models import JobState, ReferenceJob, Run, Verdict
from training.runs.ingest import ingest_message
from training.steps.store import read

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


def take_steps(sender: str, timings: list[StepTiming]) -> int:
    """Take in what the host sends under its own name."""
    return ingest_message(Host.objects.get(name=sender), message_of(sender, timings), NOW)


def stored():
    return read.steps(Run.objects.get())


def report(job: ReferenceJob, **fields) -> bytes:
    base = JobReport(
        job=job.pk,
        launch=job.launch,
        host=job.host.name,
        sequence=1,
        state="running",
        at_ms=NOW_MS,
        stage="measure",
        step=3,
        total_steps=40,
    )
    return wire.pack(replace(base, **fields))


def take_report(job: ReferenceJob, **fields) -> bool:
    """Take in what the job's host says of it."""
    return ingest_report(job.host, report(job, **fields), NOW)


def test_steps_make_a_run_and_are_stored_once(host):
    take_steps("gpu-a01", steps("launch-1"))
    take_steps("gpu-a01", steps("launch-1"))

    run = Run.objects.get()
    assert (run.name, run.host, len(read.steps(run))) == ("gpt-train", host, 3)
    assert run.last_step_at == datetime.fromtimestamp((NOW_MS + 200) / 1000, UTC)


def test_steps_of_a_reference_job_belong_to_it(job):
    take_steps("gpu-a01", steps(wire.steps_launch(job.pk, job.launch)))

    job.refresh_from_db()
    assert job.run == Run.objects.get()


def test_another_host_cannot_put_steps_into_a_job(job):
    Host.objects.create(name="gpu-a02")

    take_steps("gpu-a02", steps(wire.steps_launch(job.pk, job.launch)))

    job.refresh_from_db()
    assert job.run is None
    assert not Run.objects.exists()


def test_the_first_steps_of_another_host_do_not_keep_a_job_from_its_run(job):
    Host.objects.create(name="gpu-a02")
    take_steps("gpu-a02", steps(wire.steps_launch(job.pk, job.launch)))

    take_steps("gpu-a01", steps(wire.steps_launch(job.pk, job.launch)))

    job.refresh_from_db()
    assert (job.run.host.name, len(read.steps(job.run))) == ("gpu-a01", 3)


@pytest.mark.parametrize(
    "launch", ["reference-{}-other", "reference-{}", "reference-x", "reference-99999999999999999999-ab"]
)
def test_steps_under_a_name_that_is_kept_for_reference_jobs_need_their_job(job, launch, caplog):
    assert take_steps("gpu-a01", steps(launch.format(job.pk))) == 0

    assert not Run.objects.exists()
    assert "3 step timings from gpu-a01 were left out" in caplog.text


def test_a_run_that_was_there_before_is_linked_to_its_job(job, host):
    run = Run.objects.create(name="gpt-train", launch=wire.steps_launch(job.pk, job.launch), host=host)

    take_steps("gpu-a01", steps(wire.steps_launch(job.pk, job.launch)))

    job.refresh_from_db()
    assert job.run == run


def test_the_ranks_of_a_run_may_lie_on_several_hosts(host):
    Host.objects.create(name="gpu-a02")
    take_steps("gpu-a01", steps("launch-1", 1))

    take_steps("gpu-a02", [replace(steps("launch-1", 1)[0], rank=1)])

    assert sorted(stored().rank) == [0, 1]


def test_steps_of_a_diverged_loop_are_kept_without_their_loss(host):
    diverged = replace(steps("x", 1)[0], loss=float("nan"))

    take_steps("gpu-a01", [diverged])

    assert np.isnan(stored().loss).all()


@pytest.mark.parametrize(
    "absurd",
    [
        {"seconds": 0},
        {"seconds": 1e300},
        {"ended_ms": 2**61},
        {"ended_ms": 253_402_300_800_000},
        {"rank": 2**20},
        {"number": 2**62},
        {"samples": float("inf")},
        {"tokens": float("nan")},
    ],
    ids=str,
)
def test_a_step_that_cannot_be_is_left_out_and_the_others_stay(host, caplog, absurd):
    first, second = steps("x", 2)

    assert take_steps("gpu-a01", [replace(first, **absurd), second]) == 1

    assert stored().number.tolist() == [second.number]
    assert f"1 step timings from gpu-a01 were left out: {next(iter(absurd))}" in caplog.text


def test_the_longest_and_latest_step_that_can_be_is_kept(host):
    step = replace(steps("x", 1)[0], seconds=1e7, ended_ms=253_402_300_798_999, rank=2**20 - 1, number=2**62 - 1)

    assert take_steps("gpu-a01", [step]) == 1

    assert Run.objects.get().last_step_at.year == 9999


def test_a_report_moves_the_job_on(job):
    assert take_report(job, log="hello")

    job.refresh_from_db()
    assert (job.state, job.stage, job.step, job.log, job.heard_at) == ("running", "measure", 3, "hello", NOW)


def test_a_job_began_with_its_first_report_whichever_that_is(job):
    take_report(job, sequence=2, at_ms=NOW_MS)
    take_report(job, sequence=3, at_ms=NOW_MS + 5000)

    job.refresh_from_db()
    assert job.started_at == NOW


def test_an_older_or_repeated_report_changes_nothing(job):
    take_report(job, sequence=5, state="done", result={"samples": 1})

    assert not take_report(job, sequence=4, state="running")
    assert not take_report(job, sequence=5, state="running")
    job.refresh_from_db()
    assert (job.state, job.result["samples"]) == (JobState.DONE, 1)


def test_a_lost_job_that_was_finished_all_the_same_is_done(job):
    ReferenceJob.objects.update(state=JobState.LOST, ended_at=NOW)

    assert take_report(job, state="done")
    job.refresh_from_db()
    assert job.state == JobState.DONE


def test_a_cancelled_job_does_not_run_again(job):
    ReferenceJob.objects.update(state=JobState.CANCELLED)

    assert not take_report(job, state="running")


def test_a_job_that_was_done_before_its_cancel_came_is_done(job):
    ReferenceJob.objects.update(state=JobState.CANCELLED, cancel_requested_at=NOW, reason="cancelled by ada")

    assert take_report(job, state="done", result={"samples": 1})

    job.refresh_from_db()
    assert (job.state, job.result["samples"]) == (JobState.DONE, 1)
    assert job.reason == "the cancel came too late: the job was done before it could be ended"


def test_a_job_whose_order_only_seemed_to_have_expired_is_what_its_host_says(job):
    ReferenceJob.objects.update(state=JobState.FAILED, ended_at=NOW, reason="did not take the order")

    assert take_report(job)

    job.refresh_from_db()
    assert (job.state, job.ended_at, job.reason) == (JobState.RUNNING, None, "")


def test_a_job_that_its_host_called_failed_stays_so(job):
    take_report(job, sequence=1, state="failed")

    assert not take_report(job, sequence=2, state="done")


def test_a_report_of_another_launch_is_of_another_job(job):
    assert not take_report(job, launch="cd", state="done")


def test_after_the_end_nothing_more_is_to_be_sent(job):
    ReferenceJob.objects.update(sent_at=NOW)

    take_report(job, state="lost")

    job.refresh_from_db()
    assert job.sent_at is None


def test_a_number_of_a_result_that_is_none_is_unknown(job):
    odd = {"loss_end": float("nan"), "samples": "many", "samples_per_second": True, "versions": {"torch": "2"}}

    take_report(job, state="done", result=odd)

    job.refresh_from_db()
    numbers = [job.result[name] for name in ("loss_end", "samples", "samples_per_second", "measured_seconds")]
    assert numbers == [None] * 4
    assert job.result["versions"] == {"torch": "2"}


@pytest.mark.parametrize(
    "result",
    [
        {"x": [1]},
        {"x": {"y": {"z": 1}}},
        {"x": "a" * 2_001},
        {1: 1},
        {str(number): number for number in range(101)},
        {"x": {str(number): number for number in range(101)}},
    ],
    ids=["list", "deep", "long text", "key", "many", "many below"],
)
def test_a_result_that_no_page_could_show_is_refused(job, result):
    with pytest.raises(MessageInvalid, match="result"):
        take_report(job, state="done", result=result)


def test_another_host_cannot_speak_of_a_job(job):
    other = Host.objects.create(name="gpu-a02")

    assert not ingest_report(other, report(job, host="gpu-a02", state="done"), NOW)
    job.refresh_from_db()
    assert job.state == JobState.QUEUED


def test_a_host_speaks_under_its_own_name_only(job):
    other = Host.objects.create(name="gpu-a02")

    with pytest.raises(MessageInvalid, match="gpu-a02 sent a message that names gpu-a01"):
        ingest_report(other, report(job, state="done"), NOW)
    with pytest.raises(MessageInvalid, match="gpu-a02 sent a message that names gpu-a01"):
        ingest_message(other, message_of("gpu-a01", steps("launch-1")), NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "finished"},
        {"host": "unknown"},
        {"sequence": -1},
        {"launch": "../x"},
        {"at_ms": 2**61},
        {"step": 2**31},
        {"total_steps": 2**31},
    ],
)
def test_a_report_that_does_not_fit_is_refused(job, fields):
    with pytest.raises(MessageInvalid):
        take_report(job, **fields)


def enrolled(name: str) -> tuple[Host, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    return Host.objects.create(name=name, public_key=key.public_key().public_bytes_raw()), key


def test_reports_of_many_hosts_are_applied_together_and_a_bad_one_keeps_back_no_other():
    jobs, sealed = [], []
    for name in ("a", "b", "c"):
        host, key = enrolled(name)
        fields = {"launch": "ab", "workload": "gpt-train", "time_limit_seconds": 600, "requested_by": "admin"}
        jobs.append(ReferenceJob.objects.create(host=host, expires_at=NOW + timedelta(minutes=10), **fields))
        body = b"no report" if name == "b" else report(jobs[-1])
        sealed.append(envelope.seal(key, wire.REPORT_TASK, name, body))
    forged = envelope.seal(Ed25519PrivateKey.generate(), wire.REPORT_TASK, "b", report(jobs[1], state="done"))

    ingest_reports([*sealed, forged, b"junk"], NOW)

    assert list(ReferenceJob.objects.order_by("pk").values_list("state", flat=True)) == ["running", "queued", "running"]


@pytest.mark.parametrize(("state", "judged_again"), [("done", True), ("cancelled", False)])
def test_what_was_said_of_a_job_that_was_given_up_goes_when_its_host_says_how_it_ended(job, state, judged_again):
    ReferenceJob.objects.update(state=JobState.LOST, reason="silent", ended_at=NOW)
    later = NOW + timedelta(minutes=5)
    judge(waiting(later).get(), later)

    assert take_report(job, state=state, result={"step_seconds_median": 0.1}, sequence=9)

    assert not Verdict.objects.exists()
    ReferenceJob.objects.update(energy={"reason": "none"})
    assert waiting(later).exists() == judged_again
