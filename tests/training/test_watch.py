"""Keeping jobs' states true when nobody speaks."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Device, Host
from telemetry.receiving.ingest import ingest
from tests.telemetry.batches import GPU, payload
from training.jobs import orders
from training.jobs.ingest import ingest_report
from training.jobs.watch import watch
from training.message import wire
from training.models import JobState, ReferenceJob

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("ada")]


@pytest.fixture
def host():
    host = Host.objects.create(name="gpu-a01")
    ingest(host, payload([NOW_MS - 20_000 + 1000 * n for n in range(21)], {"power_draw_watts": [300.0] * 21}), NOW)
    host.refresh_from_db()
    return host


@pytest.fixture
def sent(monkeypatch):
    """What would go to the broker: the process's edge."""
    messages = []
    monkeypatch.setattr(orders, "_send", lambda task, each: messages.extend((task, order.body) for order in each))
    return messages


def job(host, **fields) -> ReferenceJob:
    defaults = {
        "launch": "ab",
        "workload": "gpt-train",
        "time_limit_seconds": 600,
        "requested_by": "ada",
        "created_at": NOW - timedelta(minutes=1),
        "expires_at": NOW + timedelta(minutes=9),
        "sent_at": NOW - timedelta(minutes=1),
    }
    return ReferenceJob.objects.create(host=host, device=Device.objects.get(uuid=GPU.uuid), **defaults | fields)


def after(found: ReferenceJob, now: datetime = NOW, up_seconds: float = 3600) -> ReferenceJob:
    watch(now, now - timedelta(seconds=up_seconds))
    found.refresh_from_db()
    return found


def test_an_order_that_nobody_took_fails_with_its_reason(host, sent):
    found = after(job(host, expires_at=NOW - timedelta(seconds=1)))

    assert found.state == JobState.FAILED
    assert "did not take the order before it expired at 2026-11-23 11:59:59 UTC" in found.reason


def test_a_host_whose_clock_is_ahead_of_every_order_is_told_of(host, sent):
    Host.objects.update(last_seen_at=NOW + timedelta(minutes=4), heard_at=NOW)

    assert "its clock is ahead of the server's" in after(job(host, expires_at=NOW - timedelta(seconds=1))).reason


def test_an_order_is_sent_again_while_its_host_reports(host, sent):
    found = job(host)

    after(found)
    after(found)

    [(task, payload)] = sent
    order = wire.unpack_order(payload)
    assert (task, order.job, order.launch) == (wire.START_TASK, found.pk, "ab")
    assert order.expires_ms == NOW_MS + 9 * 60_000


def test_an_order_that_was_sent_just_now_is_not_repeated(host, sent):
    after(job(host, sent_at=NOW - timedelta(seconds=19)))

    assert sent == []


def test_sending_again_says_nothing_of_when_the_agent_spoke_or_somebody_asked(host, sent):
    found = after(job(host))

    assert (found.sent_at, found.heard_at, found.cancel_requested_at) == (NOW, None, None)


def test_no_order_is_piled_up_for_a_silent_host(host, sent):
    Host.objects.update(heard_at=NOW - timedelta(minutes=5))

    assert after(job(host)).state == JobState.QUEUED
    assert sent == []


def test_a_cancel_that_was_not_heard_is_sent_again(host, sent):
    asked = NOW - timedelta(seconds=11)
    found = job(host, state=JobState.RUNNING, heard_at=NOW, cancel_requested_at=asked, sent_at=asked)

    assert after(found).cancel_requested_at == asked
    after(found)

    assert sent == [(wire.CANCEL_TASK, wire.pack_cancel(found.pk, "ab", "gpu-a01"))]


def test_a_cancel_of_a_job_in_the_queue_is_sent_until_its_host_answers(host, sent):
    found = job(host, state=JobState.CANCELLED, cancel_requested_at=NOW, ended_at=NOW)

    after(found)
    ingest_report(host, report(found, state="cancelled"), NOW)
    after(found, NOW + timedelta(seconds=11))

    assert [task for task, _ in sent] == [wire.CANCEL_TASK]


def test_a_cancel_in_the_queue_is_sent_until_the_order_has_expired(host, sent):
    after(job(host, state=JobState.CANCELLED, cancel_requested_at=NOW, expires_at=NOW - timedelta(seconds=61)))

    assert sent == []


def test_a_job_that_nobody_speaks_of_is_lost(host, sent):
    found = after(job(host, state=JobState.RUNNING, heard_at=NOW - timedelta(seconds=31)))

    assert (found.state, found.ended_at) == (JobState.LOST, NOW)
    assert "has not spoken of this job since 2026-11-23 11:59:29 UTC" in found.reason


def test_nobody_is_given_up_before_the_queue_of_a_pause_is_worked_off(host, sent):
    running = job(host, state=JobState.RUNNING, heard_at=NOW - timedelta(minutes=9))
    queued = job(host, expires_at=NOW - timedelta(seconds=1))

    assert after(running, up_seconds=29).state == JobState.RUNNING
    assert after(queued, up_seconds=29).state == JobState.QUEUED
    assert after(running, up_seconds=30).state == JobState.LOST
    assert after(queued, up_seconds=30).state == JobState.FAILED


def test_a_lost_jobs_host_that_speaks_again_is_asked_how_it_ended(host, sent):
    found = after(job(host, state=JobState.RUNNING, heard_at=NOW - timedelta(seconds=31)))
    later = NOW + timedelta(seconds=21)
    Host.objects.update(heard_at=later)

    after(found, later)

    [(task, payload)] = sent
    order = wire.unpack_order(payload)
    assert (task, order.job, order.launch) == (wire.START_TASK, found.pk, "ab")
    assert order.expires_ms == NOW_MS - 31_000  # it cannot start anything


@pytest.mark.parametrize("case", ["silent", "asked just now", "long ago", "its host called it lost"])
def test_a_lost_jobs_host_is_not_asked_in_vain(host, sent, case):
    found = job(host, state=JobState.LOST, heard_at=NOW - timedelta(minutes=5), ended_at=NOW - timedelta(minutes=4))
    match case:
        case "silent":
            Host.objects.update(heard_at=NOW - timedelta(minutes=5))
        case "asked just now":
            ReferenceJob.objects.update(sent_at=NOW - timedelta(seconds=19))
        case "long ago":
            ReferenceJob.objects.update(ended_at=NOW - timedelta(hours=1))
        case _:
            ingest_report(host, report(found, state="lost"), NOW)

    after(found)

    assert sent == []


def report(found: ReferenceJob, **fields) -> bytes:
    base = {"job": found.pk, "launch": found.launch, "host": "gpu-a01", "sequence": 7, "at_ms": NOW_MS}
    return wire.pack(wire.JobReport(**base | fields))


def test_a_job_that_is_spoken_of_goes_on(host, sent):
    assert after(job(host, state=JobState.RUNNING, heard_at=NOW - timedelta(seconds=5))).state == JobState.RUNNING


def done(host, **window) -> ReferenceJob:
    result = {"window_start_ms": NOW_MS - 15_000, "window_end_ms": NOW_MS - 5_000, "samples": 6000} | window
    return job(host, state=JobState.DONE, ended_at=NOW, result=result)


def test_energy_of_the_measured_window_is_accounted(host, sent):
    energy = after(done(host)).energy

    assert energy["joules"] == pytest.approx(3000)
    assert energy["mean_watts"] == pytest.approx(300)
    assert energy["samples_per_joule"] == pytest.approx(2)
    assert energy["is_estimated"]


def test_energy_waits_for_the_windows_last_samples(host, sent):
    assert after(done(host, window_end_ms=NOW_MS)).energy == {}


def test_energy_waits_for_samples_that_are_missing_inside_the_window(host, sent):
    found = done(host, window_start_ms=NOW_MS - 40_000)

    assert after(found).energy == {}
    assert "reason" in after(found, NOW + timedelta(seconds=61)).energy


def test_energy_that_never_comes_has_a_reason(host, sent):
    found = done(host, window_end_ms=NOW_MS + 20_000)

    assert "s only" in after(found, NOW + timedelta(seconds=61)).energy["reason"]


@pytest.mark.parametrize(
    "window", [(0, 2**62), (NOW_MS, NOW_MS - 1), (0, NOW_MS)], ids=["absurd", "backwards", "years"]
)
def test_a_window_that_cannot_be_has_no_energy(host, sent, window):
    found = after(done(host, window_start_ms=window[0], window_end_ms=window[1]))

    assert found.energy == {"reason": "the result's measured window is not one that such a job can have"}
