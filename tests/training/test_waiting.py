"""A job that waited for its host is looked at again when that is back: what was right at the launch may be so no more."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.access.auth import create_token
from fleet.models import ApiToken, Device, DeviceKind, Host, Origin, Role
from telemetry.message import envelope
from tests.people import person
from tests.training.judging.judged import board, finished
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.test_launch_limits import PYTHON, report
from training.jobs import launch, schedules
from training.jobs.admission import HELD_FOR, JOIN_WITHIN, ORDER_LIFETIME
from training.jobs.ingest import ingest_report
from training.jobs.schedules import Plan
from training.jobs.selection import Selection
from training.jobs.watch import watch
from training.message import wire
from training.message.wire import JobReport
from training.models import JobState, LadderRun, LadderState, ReferenceJob
from training.workloads.catalog import validate

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("ada", "outbox")]
ADA = Actor("ada")


def silent(name: str = "a") -> Host:
    host = board(name)
    Host.objects.filter(pk=host.pk).update(heard_at=timezone.now() - timedelta(minutes=5))
    return host


def start(*names: str, by: str = "ada", **fields: object) -> ReferenceJob:
    return launch.launch("gpt-train", names or ("a",), fields.pop("params", {}), actor=Actor(by), **fields)[0]


def look(job: ReferenceJob, *, heard: bool = True, **later: float) -> ReferenceJob:
    """Look after all jobs so much later, of hosts that are back, or still silent; returns the job as it is then."""
    now = timezone.now() + timedelta(**later)
    if heard:
        Host.objects.update(heard_at=now)
    watch(now, up_since=now - timedelta(hours=1))
    job.refresh_from_db()
    return job


def test_it_starts_when_its_host_is_back(outbox):
    silent()
    job = start()
    assert look(job, heard=False, minutes=1).sent_at is None

    assert look(job, minutes=2).reason == ""

    [(task, body)] = outbox.taken("a")
    assert (task, wire.unpack_order(body).job) == (wire.START_TASK, job.pk)


def test_one_whose_host_stays_away_ends_when_its_order_expires(outbox):
    silent()

    job = look(start(), heard=False, seconds=ORDER_LIFETIME.total_seconds() + 1)

    assert job.state == JobState.FAILED
    assert job.reason.startswith("a did not take the order before it expired at ")
    assert outbox.taken("a") == []


def test_a_device_that_somebody_took_meanwhile_ends_it_with_his_name(outbox):
    host = silent()
    job = start()
    report(host, [PYTHON])

    look(job, minutes=1)

    assert job.state == JobState.FAILED
    refused = "not started: refused when a was back: a GPU 0: in use by python train.py 4242 (bob)"
    assert job.reason == f"{refused}; launch it again, or force it with a reason"
    assert outbox.taken("a") == []


def test_memory_that_is_short_meanwhile_ends_it():
    host = silent()
    params = validate("gpt-train", {})[1]
    finished(host, params=params, result={"peak_memory_bytes": 40 * 2**30})
    job = start(params=params)
    report(
        host,
        [PYTHON | {"command": "training/reference/start.py"}],
        memory_total_bytes=80 * 2**30,
        memory_used_bytes=50 * 2**30,
    )

    assert "30.0 GiB of memory are free, an earlier run took 40.0 GiB" in look(job, minutes=1).reason


def test_one_that_is_forced_starts_all_the_same(outbox):
    host = silent()
    job = start(force_reason="bob agreed")
    report(host, [PYTHON])

    assert look(job, minutes=1).sent_at is not None
    assert len(outbox.taken("a")) == 1


def test_a_limit_that_is_full_meanwhile_has_it_wait_on_for_a_day(settings, outbox):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    silent()
    job, other = start(), start(board("b").name)
    assert other.sent_at is not None

    look(job, minutes=1)

    assert (job.state, job.reason) == (JobState.QUEUED, "waits: 1 reference job runs, the limit is 1")
    assert job.expires_at == job.created_at + HELD_FOR
    ReferenceJob.objects.filter(pk=other.pk).update(state=JobState.DONE)
    assert look(job, minutes=2).sent_at is not None


def test_a_power_budget_that_is_used_up_meanwhile_has_it_wait_on(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 1_000.0
    report(silent(), [], power_limit_watts=700.0)
    report(board("b"), [], power_limit_watts=700.0)
    job, _ = start(), start("b")

    assert "reference jobs may draw 700" in look(job, minutes=1).reason


def demoted(job: ReferenceJob) -> None:
    User.objects.get(username="ada").groups.clear()


def gone(job: ReferenceJob) -> None:
    User.objects.get(username="ada").delete()


def locked_out(job: ReferenceJob) -> None:
    User.objects.filter(username="ada").update(is_active=False)


def moved(job: ReferenceJob) -> None:
    Device.objects.update(host=ready_host("elsewhere"))


def of_another_kind(job: ReferenceJob) -> None:
    Host.objects.update(origin=Origin.IMPORTED)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (demoted, "ada, who asked for it, is no operator any more"),
        (gone, "ada, who asked for it, has no access any more"),
        (locked_out, "ada, who asked for it, has no access any more"),
        (moved, "its device is no longer one of a"),
        (of_another_kind, "a is imported now: it cannot run anything"),
    ],
)
def test_what_may_not_start_any_more_ends_with_its_reason(happens, words, outbox):
    silent()
    job = start()
    happens(job)

    look(job, minutes=1)

    assert (job.state, job.reason) == (JobState.FAILED, f"not started: {words}")
    assert outbox.taken("a") == []


def test_one_that_a_token_asked_for_ends_when_that_is_revoked():
    silent()
    create_token("night", Role.OPERATOR)
    job = start(by="token:night")
    ApiToken.objects.update(revoked_at=timezone.now())

    assert look(job, minutes=1).reason == "not started: token:night, who asked for it, has no access any more"


@pytest.mark.parametrize(
    ("removed", "words"), [(True, "the schedule 'nightly' was removed"), (False, "the schedule 'nightly' was paused")]
)
def test_one_of_a_schedule_ends_when_that_is_gone_or_paused(removed, words):
    silent()
    plan = Plan("nightly", "gpt-train", Selection(model="board"), "0 3 * * *")
    kept = schedules.keep(plan, actor=ADA, now=timezone.now())
    job = start(by="schedule nightly")
    _ = schedules.remove(kept, actor=ADA) if removed else schedules.pause(kept, actor=ADA, now=timezone.now())

    assert look(job, minutes=1).reason == f"not started: {words}"


def test_one_of_a_schedule_that_has_another_name_now_starts():
    silent()
    plan = Plan("nightly", "gpt-train", Selection(model="board"), "0 3 * * *")
    kept = schedules.keep(plan, actor=ADA, now=timezone.now())
    job = start(by="schedule nightly")
    schedules.change(kept, replace(plan, name="weekly"), actor=ADA, now=timezone.now())

    assert look(job, minutes=1).sent_at is not None
    assert job.requested_by == "schedule weekly"


@pytest.mark.parametrize(
    ("asker", "is_started"),
    [("command:root", True), ("the verdict on job 3", True), ("ada on job 3", True), ("eve on job 3", False)],
)
def test_what_started_it_for_somebody_is_asked_for_whom(asker, is_started):
    silent()

    assert (look(start(by=asker), minutes=1).sent_at is not None) is is_started


@pytest.mark.parametrize(("state", "is_started"), [(LadderState.RUNNING, True), (LadderState.CANCELLED, False)])
def test_a_process_of_a_ladder_starts_only_while_that_runs(state, is_started):
    host = silent()
    run = LadderRun.objects.create(
        workload="gpt-train", host=host, rungs=[], order=[], requested_by="ada", created_at=timezone.now(), state=state
    )

    job = look(start(by=f"ada, ladder {run.pk}"), seconds=1)

    assert (job.sent_at is not None) is is_started


def test_an_order_that_a_silent_host_did_not_take_is_taken_back_and_looked_at_again(outbox):
    host = board("a")
    job = start()
    assert len(outbox.taken("a")) == 1

    Host.objects.update(heard_at=timezone.now() - timedelta(minutes=1))
    assert look(job, heard=False, seconds=25).sent_at is None
    assert job.reason.startswith("waits for its host: a is silent")
    report(host, [PYTHON])

    assert "refused when a was back: a GPU 0: in use by python" in look(job, minutes=1).reason


def test_an_order_is_sent_again_only_while_its_device_is_free(outbox):
    host = board("a")
    job = start()
    report(host, [PYTHON])

    look(job, seconds=25)

    assert (job.sent_at, job.reason[:49]) == (None, "waits for its device: a GPU 0: in use by python t")
    assert len(outbox.taken("a")) == 1  # the first


def test_one_that_may_not_be_sent_again_is_also_cancelled_at_its_host(outbox):
    board("a")
    job = start()
    demoted(job)

    look(job, seconds=25)

    assert job.state == JobState.FAILED
    assert [task for task, _ in outbox.taken("a")] == [wire.START_TASK, wire.CANCEL_TASK]


def test_an_order_starts_its_job_only_until_that_is_looked_at_again(outbox):
    board("a")
    job = start()

    [(_, payload)] = outbox.sealed("a")

    sealed, sent_ms = envelope.read(payload), int(job.sent_at.timestamp() * 1000)
    assert wire.unpack_order(sealed.body).starts_by_ms - sent_ms == pytest.approx(20_000, abs=2)
    assert sealed.expires_ms - sent_ms == pytest.approx(140_000, abs=2)  # by a clock that may differ by two minutes
    sent_at = job.sent_at
    assert look(job, seconds=19).sent_at == sent_at
    assert look(job, seconds=21).sent_at > sent_at


def test_the_order_of_a_rank_starts_it_while_the_others_wait_for_it(outbox):
    [ready_host(name, DeviceKind.CPU) for name in "ab"]
    head, _ = launch.launch_selected("gpt-train", [("a", ""), ("b", "")], {}, actor=Actor("ada"), as_one=True)

    [(_, body)] = outbox.taken("a")
    assert wire.unpack_order(body).starts_by_ms == int((head.sent_at + JOIN_WITHIN).timestamp() * 1000)


def test_a_host_that_takes_an_order_after_it_was_taken_back_counts_as_running(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    host, _ = board("a"), board("b")
    job = start()
    Host.objects.update(heard_at=timezone.now() - timedelta(minutes=1))
    assert look(job, heard=False, seconds=25).sent_at is None

    told = JobReport(job.pk, job.launch, "a", 1, "starting", int(timezone.now().timestamp() * 1000))
    assert ingest_report(host, wire.pack(told), timezone.now())
    Host.objects.update(heard_at=timezone.now())

    assert start("b").reason == "waits: 1 reference job runs, the limit is 1"


def test_a_silent_one_holds_up_nobody(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    silent()
    existing_job(ready_host("c", DeviceKind.CPU), JobState.RUNNING, sent_at=timezone.now())
    start()
    behind = start(board("b").name)
    ReferenceJob.objects.filter(host__name="c").update(state=JobState.DONE)
    Host.objects.filter(name="b").update(heard_at=timezone.now())

    assert look(behind, heard=False, seconds=1).sent_at is not None


def test_somebody_else_who_is_operator_may_still_have_asked():
    person(Role.OPERATOR, "grace")
    silent()

    assert look(start(by="grace"), minutes=1).sent_at is not None
