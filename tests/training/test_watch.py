"""Keeping jobs' states true when nobody speaks."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Device, Host
from telemetry.ingest import ingest
from tests.telemetry.batches import GPU, payload
from training import orders
from training.models import JobState, ReferenceJob
from training.watch import watch

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    ingest(payload([NOW_MS - 20_000 + 1000 * n for n in range(21)], {"power_draw_watts": [300.0] * 21}), NOW)
    return Host.objects.get()


@pytest.fixture
def sent(monkeypatch):
    """What would go to the broker: the process's edge."""
    messages = []
    monkeypatch.setattr(orders, "_send", lambda task, payload, job, *, expires: messages.append((task, job.pk)))
    return messages


def job(host, **fields) -> ReferenceJob:
    defaults = {
        "launch": "ab",
        "workload": "gpt-train",
        "time_limit_seconds": 600,
        "requested_by": "admin",
        "created_at": NOW - timedelta(minutes=1),
        "expires_at": NOW + timedelta(minutes=9),
    }
    return ReferenceJob.objects.create(host=host, device=Device.objects.get(uuid=GPU.uuid), **defaults | fields)


def after(found: ReferenceJob, now: datetime = NOW) -> ReferenceJob:
    watch(now)
    found.refresh_from_db()
    return found


def test_an_order_that_nobody_took_fails_with_its_reason(host, sent):
    found = after(job(host, expires_at=NOW - timedelta(seconds=1)))

    assert found.state == JobState.FAILED
    assert "did not take the order before it expired at 11:59:59 UTC" in found.reason


def test_an_order_is_sent_again_while_its_host_reports(host, sent):
    found = job(host)

    after(found)
    after(found)

    assert sent == [("host.start_job", found.pk)]


def test_no_order_is_piled_up_for_a_silent_host(host, sent):
    Host.objects.update(last_seen_at=NOW - timedelta(minutes=5))

    assert after(job(host)).state == JobState.QUEUED
    assert sent == []


def test_a_cancel_that_was_not_heard_is_sent_again(host, sent):
    found = job(host, state=JobState.RUNNING, heard_at=NOW, cancel_requested_at=NOW - timedelta(seconds=11))

    after(found)

    assert sent == [("host.cancel_job", found.pk)]


def test_a_job_that_nobody_speaks_of_is_lost(host, sent):
    found = after(job(host, state=JobState.RUNNING, heard_at=NOW - timedelta(seconds=31)))

    assert (found.state, found.ended_at) == (JobState.LOST, NOW)
    assert "has not spoken of this job since 11:59:29 UTC" in found.reason


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


def test_energy_that_never_comes_has_a_reason(host, sent):
    found = done(host, window_end_ms=NOW_MS + 20_000)

    assert "s only" in after(found, NOW + timedelta(seconds=61)).energy["reason"]
