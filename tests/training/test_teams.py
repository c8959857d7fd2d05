"""One distributed job over several hosts: all or none of them start, meet where rank 0 listens, and end together."""

from datetime import timedelta
from unittest.mock import Mock

import msgpack
import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from fleet.models import AuditEntry, Device, DeviceKind, Host
from telemetry.accounts.energy import Energy, summed
from telemetry.message.wire import MessageInvalid
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.teams import ADA, MEETING, committed, distributed, now_of, report, running, say
from training.jobs import ingest, launch
from training.jobs.admission import JOIN_WITHIN, ORDER_LIFETIME
from training.jobs.launch import LaunchRefused
from training.jobs.watch import watch
from training.judging.judge import judge, waiting
from training.judging.key import parts
from training.message import rank_order, wire
from training.models import JobState, ReferenceJob, Team
from training.reference.order import LEFT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("ada")]


def later(**delta: float):
    """Look after all jobs so much later, with hosts that have been heard of all the time."""
    now = timezone.now() + timedelta(**delta)
    Host.objects.exclude(heard_at=None).update(heard_at=now)
    with committed():
        watch(now, up_since=now - timedelta(hours=1))
    return now


def sent(outbox, name: str) -> list[tuple[str, int]]:
    """Return (task, job) of what waits for a host."""
    opened = []
    for task, body in outbox.taken(name):
        is_start = task == wire.START_TASK
        opened.append((task, wire.unpack_order(body).job if is_start else wire.unpack_cancel(body)[0]))
    return opened


def test_rank_0_is_sent_first_and_the_others_to_where_it_listens(outbox):
    head, other = distributed("a", "b")
    ((_, first),) = outbox.taken("a")
    assert (wire.unpack_order(first).ranks.rank, outbox.taken("b")) == (0, [])

    say(head, "starting", meeting=MEETING)
    say(head, "running", meeting=MEETING)

    ((_, second),) = outbox.taken("b")
    ranks = wire.unpack_order(second).ranks
    assert (ranks.head, ranks.rank, ranks.world_size, ranks.address, ranks.port) == (head.pk, 1, 2, "10.1.2.3", 4567)
    assert ranks.token == wire.unpack_order(first).ranks.token
    assert other.launch == head.launch


def test_nobody_but_rank_0s_host_says_where_the_ranks_meet(outbox):
    _, other = distributed("a", "b")
    say(other, "starting", meeting=MEETING)
    assert Team.objects.get().address == ""


@pytest.mark.parametrize(
    ("names", "workload", "field", "why"),
    [
        (("a",), "gpt-train", "hosts", "2 to"),
        (("a", "b"), "gpt-generate", "workload", "does not run as one job"),
        (("a", "gpu"), "gpt-train", "hosts", "one kind of device"),
        (("a", "busy"), "gpt-train", "hosts", "busy with reference job"),
    ],
)
def test_what_cannot_be_one_job_starts_on_no_host(outbox, names, workload, field, why):
    ready_host("gpu", DeviceKind.NVIDIA)
    existing_job(ready_host("busy", DeviceKind.CPU), JobState.RUNNING)
    before = ReferenceJob.objects.count()
    with pytest.raises(LaunchRefused, match=why) as refused:
        distributed(*names, workload=workload)
    assert refused.value.field == field
    assert (ReferenceJob.objects.count(), Team.objects.count(), outbox.taken("a")) == (before, 0, [])


def test_all_hosts_are_taken_while_one_of_them_is_waited_for(outbox):
    ready_host("b", DeviceKind.CPU, heard_at=None)
    head, _ = distributed("a", "b")
    assert "waits: b silent" in head.reason
    assert outbox.taken("a") == []
    with pytest.raises(LaunchRefused, match="a is busy"):
        launch.launch("gpt-train", ["a"], {}, actor=ADA)

    Host.objects.filter(name="b").update(heard_at=timezone.now())
    later(seconds=5)

    assert sent(outbox, "a") == [(wire.START_TASK, head.pk)]
    assert now_of(head).reason == ""


def test_a_host_that_stays_away_ends_the_waiting_with_its_name(outbox):
    ready_host("b", DeviceKind.CPU, heard_at=None)
    head, other = distributed("a", "b")
    later(seconds=ORDER_LIFETIME.total_seconds() + 1)
    assert (now_of(head).state, now_of(other).state) == (JobState.FAILED, JobState.FAILED)
    assert "b silent" in now_of(head).reason
    assert outbox.taken("a") == [] or sent(outbox, "a") == []


def test_a_job_that_waits_for_a_host_holds_up_no_other(outbox, settings):
    settings.STEPWATT_JOBS_AT_ONCE = 2
    ready_host("b", DeviceKind.CPU, heard_at=None)
    distributed("a", "b")
    running_one = existing_job(ready_host("c", DeviceKind.CPU), JobState.RUNNING, sent_at=timezone.now())
    existing_job(ready_host("d", DeviceKind.CPU), JobState.RUNNING, sent_at=timezone.now())
    (held,) = launch.launch("gpt-train", [ready_host("e", DeviceKind.CPU).name], {}, actor=ADA)
    assert held.sent_at is None
    ReferenceJob.objects.filter(pk=running_one.pk).update(state=JobState.DONE)

    later(seconds=5)

    assert now_of(held).sent_at is not None


def test_ranks_are_let_in_together_or_not_at_all(outbox, settings):
    settings.STEPWATT_JOBS_AT_ONCE = 2
    runs = existing_job(ready_host("c", DeviceKind.CPU), JobState.RUNNING, sent_at=timezone.now())
    head, other = distributed("a", "b")
    assert (head.sent_at, other.sent_at) == (None, None)
    ReferenceJob.objects.filter(pk=runs.pk).update(state=JobState.DONE)
    later(seconds=5)
    assert sent(outbox, "a") == [(wire.START_TASK, head.pk)]
    assert now_of(other).sent_at is not None


@pytest.mark.parametrize("missing", [0, 1])
def test_a_host_that_never_starts_ends_all_within_a_minute(outbox, missing):
    jobs = distributed("a", "b")
    if missing == 1:
        say(jobs[0], "running", meeting=MEETING, stage="join")
        soon = timezone.now() + JOIN_WITHIN  # by then it has spoken again
        ReferenceJob.objects.filter(pk=jobs[0].pk).update(heard_at=soon)

    later(seconds=JOIN_WITHIN.total_seconds() + 1)

    if missing == 1:  # its agent obeys
        say(jobs[0], "cancelled", "cancelled while it ran")
    assert JOIN_WITHIN.total_seconds() < 60
    head = now_of(jobs[0])
    assert head.state == JobState.FAILED
    assert head.reason.startswith(f"rank {missing} on {'ab'[missing]}: {'ab'[missing]} did not take the order")
    assert not ReferenceJob.objects.filter(state__in=["queued", "starting", "running"]).exists()


def test_a_rank_that_dies_ends_the_others_and_its_reason_is_the_jobs(outbox):
    head, other = running("a", "b")
    outbox.taken("a")

    say(other, "failed", "the job's process was killed by signal 9 (SIGKILL)")

    assert sent(outbox, "a") == [(wire.CANCEL_TASK, head.pk)]
    ended = say(head, "cancelled", "cancelled while it ran")
    assert (ended.state, ended.reason) == (
        JobState.FAILED,
        "rank 1 on b: the job's process was killed by signal 9 (SIGKILL)",
    )
    assert Team.objects.get().is_settled


def test_a_rank_that_only_lost_the_others_is_not_the_cause(outbox):
    head, other, _ = running("a", "b", "c")
    say(head, "failed", f"{LEFT}Connection closed by peer")
    assert now_of(head).reason == f"rank 0 on a: {LEFT}Connection closed by peer"

    say(other, "failed", "out of memory: 3 GiB")

    assert now_of(head).reason == "rank 1 on b: out of memory: 3 GiB"


def test_an_agent_that_is_lost_ends_the_job(outbox):
    head, _ = running("a", "b")
    later(seconds=20)
    ReferenceJob.objects.filter(pk=head.pk).update(heard_at=timezone.now() + timedelta(seconds=20))

    later(seconds=35)

    assert sent(outbox, "a")[-1] == (wire.CANCEL_TASK, head.pk)
    assert now_of(say(head, "cancelled", "cancelled while it ran")).reason.startswith(
        "rank 1 on b: the agent on b has not"
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_cancel_of_any_rank_cancels_all(outbox, rank):
    jobs = running("a", "b")
    with committed():
        assert launch.cancel(jobs[rank], actor=ADA, now=timezone.now())
    assert [sent(outbox, name)[-1][0] for name in "ab"] == [wire.CANCEL_TASK] * 2
    say(jobs[1], "cancelled", "cancelled while it ran")
    head = say(jobs[0], "failed", f"{LEFT}Connection closed by peer")
    assert (head.state, head.reason) == (JobState.CANCELLED, "cancelled by ada")
    assert not launch.cancel(head, actor=ADA, now=timezone.now())


def test_a_cancel_that_cannot_be_noted_is_not_audited_and_ends_no_rank(outbox, monkeypatch):
    jobs = running("a", "b")
    [outbox.taken(name) for name in "ab"]
    monkeypatch.setattr(launch.teams, "note_cancel", Mock(side_effect=OperationalError("database is locked")))
    with committed(), pytest.raises(OperationalError):
        launch.cancel(jobs[0], actor=ADA, now=timezone.now())
    assert [outbox.taken(name) for name in "ab"] == [[], []]
    assert not AuditEntry.objects.filter(action="reference.cancel").exists()


def test_a_cancel_that_was_only_noted_is_carried_out_with_the_next_look(outbox):
    jobs = running("a", "b")
    [outbox.taken(name) for name in "ab"]
    Team.objects.update(cancelled_by="ada")
    later(seconds=1)
    assert [sent(outbox, job.host.name) for job in jobs] == [[(wire.CANCEL_TASK, job.pk)] for job in jobs]


def test_what_is_told_of_a_report_that_is_not_kept_goes_to_no_host(outbox):
    head, _ = distributed("a", "b")
    now = timezone.now()
    with committed(), transaction.atomic():
        ingest.ingest_report(head.host, report(head, "starting", now, meeting=MEETING), now)
        transaction.set_rollback(True)
    assert outbox.taken("b") == []


def test_a_cancel_before_the_ranks_have_met_ends_those_that_no_host_has(outbox):
    head, other = distributed("a", "b")
    say(head, "starting")
    with committed():
        launch.cancel(now_of(head), actor=ADA, now=timezone.now())
    say(head, "starting", meeting=MEETING)
    assert now_of(other).state == JobState.CANCELLED
    assert [task for task, _ in sent(outbox, "b")] == [wire.CANCEL_TASK]


def test_a_job_whose_rank_0_is_done_stays_done_whatever_follows(outbox):
    head, other = running("a", "b")
    say(head, "done", result={"samples": 8})
    assert not waiting(timezone.now()).exists()
    say(other, "failed", "killed at its very end")
    assert now_of(head).state == JobState.DONE


def test_a_lost_rank_that_speaks_again_is_told_to_end(outbox):
    head, other = running("a", "b")
    say(head, "failed", "out of memory")
    ReferenceJob.objects.filter(pk=other.pk).update(state=JobState.LOST, cancel_requested_at=None)
    later(seconds=1)
    outbox.taken("b")
    say(other, "running")
    later(seconds=4)
    assert sent(outbox, "b")[-1] == (wire.CANCEL_TASK, other.pk)


def test_a_removed_host_ends_the_job_on_the_others(outbox):
    head, other = running("a", "b")
    other.host.delete()
    later(seconds=1)
    assert sent(outbox, "a")[-1] == (wire.CANCEL_TASK, head.pk)
    assert say(head, "cancelled").reason == "a host of it was removed"


def test_a_lost_rank_is_asked_for_its_end_although_rank_0s_host_is_gone(outbox):
    head, other = running("a", "b")
    head.host.delete()
    ReferenceJob.objects.filter(pk=other.pk).update(
        state=JobState.LOST, ended_at=timezone.now(), sent_at=timezone.now()
    )
    outbox.taken("b")
    later(seconds=25)
    assert sent(outbox, "b")[-1] == (wire.START_TASK, other.pk)


def test_one_verdict_is_given_when_all_have_ended_and_only_like_is_compared_with_like(outbox):
    head, other = running("a", "b")
    say(other, "done", result={"samples": 4})
    say(head, "done", result={"samples": 8})
    long_after = timezone.now() + timedelta(hours=1)
    assert [job.pk for job in waiting(long_after)] == [head.pk]
    alone = existing_job(head.host, JobState.DONE, params=head.params)
    assert (parts(now_of(head))["ranks"], parts(now_of(head))["hosts"]) == (2, 2)
    assert "ranks" not in parts(alone)


def test_the_same_can_be_run_again(outbox):
    head, other = running("a", "b")
    say(other, "done")
    say(head, "done")
    fresh = launch.again(now_of(head), actor=ADA, now=timezone.now())
    assert [(job.rank, job.host.name) for job in fresh] == [(0, "a"), (1, "b")]
    assert fresh[0].team.members == now_of(head).team.members


def test_ranks_beside_each_other_are_no_strangers_but_others_are(outbox):
    for name, cores in (("a", 0.5), ("b", 0.9)):
        host = ready_host(name, DeviceKind.CPU)
        Device.objects.create(host=host, uuid=f"second-{name}", kind=DeviceKind.CPU, index=1, model="model cpu")
        jobs = launch.launch_selected("gpt-train", [(name, ""), (name, f"second-{name}")], {}, actor=ADA, as_one=True)
        say(jobs[1], "done", result={"own_cores": 0.5})
        say(jobs[0], "done", result={"foreign_cores": cores, "measured_seconds": 9.0})
        ReferenceJob.objects.filter(pk=jobs[0].pk).update(energy={"reason": "none"})

    first, second = (judge(job, timezone.now()) for job in waiting(timezone.now()))

    assert first.markers == []
    assert second.markers == ["rank 0 on b: others kept 0.4 of its cores busy (more than 0.25)"]


def test_energy_is_that_of_all_devices_or_unknown():
    one, other = Energy(10.0, 2.0, "counter"), Energy(4.0, 2.0, "trapezoid", is_estimated=True)
    both = summed([one, other])
    assert (both.joules, both.mean_watts, both.method, both.is_estimated) == (14.0, 7.0, "counter, trapezoid", True)
    assert summed([one, Energy(None, 2.0, reason="no reading")]).reason == "no reading"


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 2},
        {"world_size": 5000},
        {"token": "../x"},
        {"address": "somewhere"},
        {"port": 0},
        {"address": "224.0.0.1"},
    ],
)
def test_an_order_with_ranks_that_cannot_be_is_refused(changes):
    ranks = {"head": 1, "rank": 1, "world_size": 2, "token": "c0ffee", "address": "10.0.0.1", "port": 4567}
    assert rank_order.read(ranks).port == 4567
    with pytest.raises(MessageInvalid):
        rank_order.read(ranks | changes)


def test_an_agent_that_knows_no_ranks_refuses_their_order(outbox):
    distributed("a", "b")
    ((_, body),) = outbox.taken("a")
    assert msgpack.unpackb(body)["v"] == wire.VERSION_OF_RANKS != wire.VERSION
