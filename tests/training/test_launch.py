"""Launching and cancelling: all or nothing, and the orders that go to the hosts."""

from datetime import timedelta

import pytest
from celery import current_app
from django.db import DatabaseError
from django.utils import timezone
from kombu import Connection, pools

from fleet import units
from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import AuditEntry, DeviceKind, Origin
from tests.training.reference_jobs import existing_job, ready_host
from training.jobs.admission import ORDER_LIFETIME
from training.jobs.launch import LaunchRefused, cancel, launch
from training.message import wire
from training.models import FINAL_STATES, JobState, ReferenceJob
from training.workloads.catalog import validate

pytestmark = pytest.mark.django_db

ADA = Actor("ada", "192.0.2.7")


@pytest.fixture
def start(outbox):
    def start(*hosts, workload="gpt-train", params=None, **kwargs):
        return launch(workload, list(hosts), params or {}, actor=ADA, **kwargs)

    return start


@pytest.fixture
def stop(outbox):
    return lambda job: cancel(job, actor=ADA, now=timezone.now())


def test_each_host_gets_a_job_of_one_launch_in_the_order_given(start):
    ready_host("a")
    ready_host("b")

    jobs = start("b", "a")

    assert [job.host.name for job in jobs] == ["b", "a"]
    assert len({job.launch for job in jobs}) == 1
    assert {job.state for job in jobs} == {JobState.QUEUED}


def test_parameters_that_are_not_given_have_their_defaults(start):
    ready_host()

    [job] = start("a", params={"steps": 30})

    assert (job.params["steps"], job.params["warmup_steps"], job.params["precision"]) == (30, 5, "auto")


def test_the_order_waits_on_the_hosts_own_queue(start, outbox):
    ready_host("a")
    ready_host("b")

    [job] = start("b", params={"steps": 30})

    [(task, payload)] = outbox.taken("b")
    order = wire.unpack_order(payload)
    assert task == wire.START_TASK
    assert (order.job, order.launch, order.host, order.workload) == (job.pk, job.launch, "b", "gpt-train")
    assert order.device_uuid == "nvidia-b"
    assert validate("gpt-train", order.params)[1] == job.params
    assert outbox.taken("a") == []


def test_an_order_expires_with_its_job(start, outbox):
    ready_host()

    [job] = start("a")

    [(_, payload)] = outbox.taken("a")
    assert job.expires_at - job.created_at == ORDER_LIFETIME
    assert wire.unpack_order(payload).expires_ms == int(job.expires_at.timestamp() * 1000)


def test_no_order_is_sent_for_a_launch_that_was_not_committed(start, outbox, monkeypatch):
    def fail(*args):
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(audit, "record_each", fail)
    ready_host()

    with pytest.raises(DatabaseError):
        start("a")

    assert outbox.taken("a") == []
    assert not ReferenceJob.objects.exists()


def test_a_launch_is_in_the_audit_log_once_a_host(start):
    ready_host("a")
    ready_host("b")

    first, _ = start("a", "b")

    entry = AuditEntry.objects.get(subject="a")
    assert AuditEntry.objects.count() == 2
    assert (entry.actor, entry.action, entry.address) == ("ada", "reference.launch", "192.0.2.7")
    assert entry.detail == {"job": first.pk, "workload": "gpt-train", "params": first.params}


def test_an_accelerator_is_chosen_before_the_cpu(start):
    ready_host("a", DeviceKind.CPU, DeviceKind.NVIDIA)

    assert start("a")[0].device.kind == DeviceKind.NVIDIA


def test_a_device_can_be_chosen(start):
    ready_host("a", DeviceKind.CPU, DeviceKind.NVIDIA)

    assert start("a", device_uuid="cpu-a")[0].device.kind == DeviceKind.CPU


@pytest.mark.parametrize(
    ("kinds", "uuid", "words"),
    [
        ([DeviceKind.CPU, DeviceKind.NODE], "node-a", "a has no device node-a"),
        ([DeviceKind.NODE], "", "a has not reported any device yet"),
    ],
)
def test_the_host_as_a_whole_is_no_device_that_a_job_runs_on(start, kinds, uuid, words):
    ready_host("a", *kinds)

    with pytest.raises(LaunchRefused, match=words):
        start("a", device_uuid=uuid)


def test_a_silent_host_is_sent_no_order_and_the_job_says_that_it_waits(start, outbox):
    ready_host(heard_at=timezone.now() - timedelta(minutes=5))

    [job] = start("a")

    until = units.utc(job.created_at + ORDER_LIFETIME)
    assert job.reason == f"waits for its host: a is silent; it starts when that is back, and is given up at {until}"
    assert (job.sent_at, outbox.taken("a")) == (None, [])


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"workload": "mine-coins"}, "workload", "'mine-coins' is not one of"),
        ({"params": {"steps": 1}}, "steps", "not between 5 and"),
        ({"params": {"steps": "60"}}, "steps", "not a whole number"),
        ({"params": {"colour": "red"}}, "colour", "no such parameter"),
        ({"device_uuid": "GPU-other"}, "device", "has no device GPU-other"),
    ],
)
def test_a_wrong_order_names_its_field(start, arguments, field, words):
    ready_host()

    with pytest.raises(LaunchRefused, match=words) as refusal:
        start("a", **arguments)

    assert (refusal.value.field, refusal.value.is_busy) == (field, False)


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ((), "choose at least one host"),
        (("a", "a"), "named twice"),
        (("a", "nobody"), "no host named 'nobody'"),
        (("a", "bare"), "has not reported any device"),
        (("a", "replay"), "replay is imported: it cannot run anything"),
        (("a", "busy"), r"busy is busy with reference job \d+ \(gpt-train\)"),
    ],
)
def test_one_host_that_cannot_refuses_the_whole_launch(start, outbox, hosts, words):
    ready_host("a")
    ready_host("bare").devices.all().delete()
    ready_host("replay", origin=Origin.IMPORTED)
    existing_job(ready_host("busy"), JobState.RUNNING)

    with pytest.raises(LaunchRefused, match=words) as refusal:
        start(*hosts)

    assert refusal.value.field == "hosts"
    assert ReferenceJob.objects.count() == 1
    assert not AuditEntry.objects.exists()
    assert outbox.taken("a") == []


def test_only_a_busy_host_is_worth_another_try(start):
    existing_job(ready_host(), JobState.QUEUED)

    with pytest.raises(LaunchRefused) as refusal:
        start("a")

    assert refusal.value.is_busy


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_host_whose_job_has_ended_is_free(start, state):
    existing_job(ready_host(), state)

    assert start("a")


def test_without_a_broker_the_job_stays_queued_for_the_watch_to_send(start, monkeypatch):
    nobody = Connection("redis://127.0.0.1:1/0")
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[nobody])
    ready_host()

    [job] = start("a")

    job.refresh_from_db()
    assert job.state == JobState.QUEUED


def test_a_running_job_goes_on_until_its_host_has_ended_it(stop, outbox):
    job = existing_job(ready_host(), JobState.RUNNING)

    assert stop(job)

    [(task, payload)] = outbox.taken("a")
    assert (task, wire.unpack_cancel(payload)) == (wire.CANCEL_TASK, (job.pk, job.launch, "a"))
    assert (job.state, job.cancel_requested_at is not None) == (JobState.RUNNING, True)


def test_a_job_that_no_host_has_taken_is_cancelled_at_once(stop, outbox):
    job = existing_job(ready_host())

    stop(job)

    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled by ada before a host took it")
    assert len(outbox.taken("a")) == 1  # the host may be taking it at this very moment


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_job_that_has_ended_cannot_be_cancelled(stop, outbox, state):
    job = existing_job(ready_host(), state)

    assert not stop(job)
    assert outbox.taken("a") == []
    assert not AuditEntry.objects.exists()


def test_a_cancel_is_in_the_audit_log(stop):
    job = existing_job(ready_host(), JobState.RUNNING)

    stop(job)

    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.subject, entry.detail) == ("ada", "reference.cancel", "a", {"job": job.pk})
