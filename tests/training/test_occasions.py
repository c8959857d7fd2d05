"""What schedules follow besides time: each thing that happened once, at the device to which it happened, however late told."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import Device, DeviceKind, Event, EventKind, Host, Severity
from tests.training.reference_jobs import ready_host
from training.jobs.schedules import Plan, keep, pause, resume
from training.jobs.selection import Selection
from training.jobs.visits import follow
from training.models import JobState, ReferenceJob, Schedule, ScheduledVisit, Trigger

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
ADA = Actor("ada")
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _orders(outbox):
    """Orders go into the outbox."""


@pytest.fixture
def host() -> Host:
    found = ready_host("a", cluster="atlas")
    Device.objects.update(created_at=NOW - timedelta(days=1))
    return found


def after(*triggers: Trigger, **fields: object) -> Schedule:
    selection = Selection(**{"cluster": "atlas"} | fields)
    return keep(Plan("after", "gpt-train", selection, triggers=[each.value for each in triggers]), actor=ADA, now=NOW)


def devices(minutes: float) -> list[str]:
    """Let beat come at that minute; returns the devices of all jobs so far, of which all are done then."""
    at = NOW + minutes * MINUTE
    Host.objects.update(heard_at=at)
    follow(at)
    ReferenceJob.objects.update(state=JobState.DONE)
    return list(ReferenceJob.objects.order_by("pk").values_list("device__uuid", flat=True))


def silent(host: Host, *, from_minute: float, to_minute: float, **detail: str) -> Event:
    return Event.objects.create(
        kind=EventKind.HEALTH, severity=Severity.CRITICAL, rule="host_silent", subject=f"host:{host.name}", host=host,
        text="", first_at=NOW + from_minute * MINUTE, last_at=NOW + from_minute * MINUTE,
        resolved_at=NOW + to_minute * MINUTE, detail=detail,
    )  # fmt: skip


def changed(host: Host, minute: float) -> Event:
    at = NOW + minute * MINUTE
    return Event.objects.create(
        kind=EventKind.SOFTWARE_CHANGED, severity=Severity.INFO, host=host, text="driver 1 → 2", first_at=at, last_at=at
    )


def gpu(host: Host, uuid: str, minute: float, index: int = 1, **fields: object) -> Device:
    return Device.objects.create(
        host=host, uuid=uuid, kind=DeviceKind.NVIDIA, index=index, created_at=NOW + minute * MINUTE, **fields
    )


def test_a_host_that_came_back_is_followed_once_however_often_beat_looks(host):
    after(Trigger.HOST_BACK)
    silent(host, from_minute=1, to_minute=2)

    assert len(devices(2.1)) == 1
    assert len(devices(2.2)) == 1
    assert len(devices(3)) == 1


def test_one_that_was_written_a_moment_late_is_not_missed(host):
    after(Trigger.HOST_BACK)
    assert devices(2.1) == []

    silent(host, from_minute=1, to_minute=2)

    assert len(devices(2.2)) == 1


def test_an_alert_that_ended_with_its_rule_is_no_host_that_came_back(host):
    after(Trigger.HOST_BACK)
    silent(host, from_minute=1, to_minute=2, resolved="its rule is off")

    assert devices(3) == []


def test_a_host_that_was_not_heard_since_has_not_come_back(host):
    after(Trigger.HOST_BACK)
    silent(host, from_minute=1, to_minute=2)
    Host.objects.update(heard_at=NOW)

    follow(NOW + 3 * MINUTE)

    assert not ScheduledVisit.objects.exists()


def test_a_change_that_the_host_tells_hours_later_is_followed(host):
    """Its event has the time of the host's clock, which went on while the broker was away."""
    after(Trigger.SOFTWARE_CHANGED)
    devices(300)
    changed(host, minute=60)

    assert len(devices(301)) == 1
    assert len(devices(302)) == 1


def test_what_happened_before_the_schedule_was_made_or_while_it_was_paused_is_not_followed(host):
    changed(host, minute=-1)
    schedule = after(Trigger.SOFTWARE_CHANGED, Trigger.HOST_BACK)
    assert devices(1) == []
    pause(schedule, actor=ADA, now=NOW + 2 * MINUTE)
    changed(host, minute=3)
    silent(host, from_minute=3, to_minute=4)
    resume(schedule, actor=ADA, now=NOW + 5 * MINUTE)

    assert devices(5.1) == []


def test_a_new_device_is_measured_itself_and_not_the_hosts_first(host):
    after(Trigger.DEVICE_NEW)
    gpu(host, "new", minute=1)

    assert devices(1.1) == ["new"]


def test_with_one_job_a_host_the_first_of_its_new_devices_stands_for_all(host):
    after(Trigger.DEVICE_NEW)
    for index in (1, 2, 3):
        gpu(host, f"new-{index}", minute=1, index=index)

    assert devices(1.1) == ["new-1"]
    assert devices(1.2) == ["new-1"]


def test_with_one_job_a_device_each_new_one_is_measured_one_after_the_other(host):
    after(Trigger.DEVICE_NEW, per="device")
    for index in (1, 2):
        gpu(host, f"new-{index}", minute=1, index=index)

    devices(1.1)

    assert devices(1.2) == ["new-1", "new-2"]


def test_a_part_of_a_device_or_one_that_the_selection_does_not_fit_is_no_new_device(host):
    after(Trigger.DEVICE_NEW, model="model nvidia")
    gpu(host, "mig", minute=1, parent=host.devices.get(), profile="1g.10gb", model="model nvidia")
    gpu(host, "other", minute=1, index=2, model="another")

    assert devices(1.1) == []


def test_a_device_that_was_moved_here_is_new_here(host):
    after(Trigger.DEVICE_NEW)
    moved = gpu(host, "moved", minute=-1000)
    Event.objects.create(
        kind=EventKind.DEVICE_MOVED,
        severity=Severity.WARNING,
        host=host,
        device=moved,
        text="",
        first_at=NOW,
        last_at=NOW,
    )

    assert devices(1) == ["moved"]


def test_a_second_cause_while_the_host_is_waited_for_does_not_run_it_twice(host):
    after(Trigger.HOST_BACK, Trigger.SOFTWARE_CHANGED)
    silent(host, from_minute=1, to_minute=2)
    busy = ReferenceJob.objects.create(
        host=host,
        launch="ab",
        workload="gpt-train",
        time_limit_seconds=9,
        requested_by="b",
        expires_at=NOW,
        state=JobState.RUNNING,
    )
    follow(NOW + 2.1 * MINUTE)
    changed(host, minute=2.2)
    follow(NOW + 2.3 * MINUTE)
    ReferenceJob.objects.filter(pk=busy.pk).update(state=JobState.DONE)

    assert len(devices(3)) == 2
    assert len(devices(4)) == 2
