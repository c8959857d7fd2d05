"""What starts only on idle hosts looks at what the cores of a CPU did in the last minute."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import DeviceKind, Host
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo
from telemetry.receiving.ingest import ingest
from tests.telemetry.batches import payload
from tests.training.reference_jobs import existing_job, ready_host
from training.jobs import idleness, launch, releasing, schedules, visits
from training.jobs.schedules import Plan
from training.jobs.selection import Selection
from training.models import JobState, ReferenceJob, ScheduledVisit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
PROCESSOR = DeviceInfo("cpu-1", DeviceKind.CPU, 0, "A processor")
ADA = Actor("ada")
JUST_STARTED = "its agent has just been started: what its cores do is not known yet"


def measured(*loads: float | None, until_ms: int = NOW_MS, sequence: int = 0) -> Host:
    """Return a host whose cores were so busy in the seconds until then; None: it could not tell yet."""
    host, _ = Host.objects.get_or_create(name="a")
    times = [until_ms - 1000 * n for n in reversed(range(len(loads)))]
    columns = {"gpu_utilization_ratio": list(loads)}
    absent = {"gpu_utilization_ratio": AbsentReason.UNKNOWN} if loads[-1] is None else {}
    ingest(host, payload(times, columns, device=PROCESSOR, host="a", sequence=sequence, absent=absent), NOW)
    host.refresh_from_db()
    return host


def due(host: Host, minutes: int = 1) -> ScheduledVisit:
    """Return the visit of a schedule that has become due on it."""
    plan = Plan("nightly", "gpt-train", Selection(model=host.devices.get().model), cron="* * * * *")
    schedules.keep(plan, actor=ADA, now=NOW - timedelta(minutes=minutes))
    visits.follow(NOW)
    return ScheduledVisit.objects.get()


def test_a_schedule_waits_while_the_cores_do_other_work():
    visit = due(measured(*[0.4] * 30, *[0.1] * 30))

    assert (visit.job, visit.ended_at) == (None, None)
    said = r"a CPU 0: its cores were 25\S*.% busy in the last minute \(idle is below 12\.5.%\)"
    assert re.fullmatch(said, visit.outcome)


def test_it_starts_where_a_moment_was_busy_and_the_minute_was_not():
    assert due(measured(*[0.02] * 57, 0.9, 0.9, 0.9)).job is not None


def test_it_starts_where_nothing_is_known_of_the_cores():
    assert due(ready_host("a", DeviceKind.CPU, heard_at=NOW)).job is not None


@pytest.mark.parametrize(("loads", "is_started"), [([None], False), ([0.02] * 3, False), ([0.02] * 5, True)])
def test_one_that_has_just_come_back_is_waited_for_until_something_is_known_of_it(loads, is_started):
    """Its agent's first reading of the cores is none: no time has passed. Events start schedules in that moment."""
    visit = due(measured(*loads))

    assert (visit.job is not None) is is_started
    assert visit.outcome == ("" if is_started else f"a CPU 0: {JUST_STARTED}")


def test_the_work_of_a_job_of_ours_is_no_others():
    host = measured(*[1.0] * 50, *[0.05] * 10)
    ended = NOW - timedelta(seconds=11)
    existing_job(host, JobState.DONE, ended_at=ended)

    assert idleness.hindrances([(host, host.devices.get())], NOW) == []


def test_a_fresh_run_waits_too_and_a_launch_by_hand_does_not():
    host = measured(*[0.9] * 60)
    job = existing_job(host, JobState.DONE, params={}, ended_at=NOW - timedelta(hours=1))

    with pytest.raises(launch.LaunchRefused, match="its cores were") as refused:
        launch.again(job, actor=ADA, now=NOW)

    assert refused.value.is_busy
    assert launch.prepare("gpt-train", [("a", "")], {}, actor=ADA, now=NOW)
    assert ReferenceJob.objects.filter(state=JobState.QUEUED).count() == 1


@pytest.mark.parametrize(("asker", "is_started"), [("the verdict on job 1", False), ("command:root", True)])
def test_one_that_waited_for_others_is_not_let_in_while_the_cores_do_other_work(settings, asker, is_started):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    other = existing_job(ready_host("b", DeviceKind.CPU), JobState.RUNNING, sent_at=NOW)
    measured(*[0.01] * 5, until_ms=NOW_MS - 60_000)
    launch.prepare("gpt-train", [("a", "")], {}, actor=Actor(asker), now=NOW, only_when_idle=True)
    ReferenceJob.objects.filter(pk=other.pk).update(state=JobState.DONE)
    measured(*[0.9] * 50, sequence=1)

    assert bool(releasing.admit(NOW)) is is_started

    reason = ReferenceJob.objects.get(host__name="a").reason
    assert ("its cores were" in reason) is not is_started
