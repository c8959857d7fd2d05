"""Schedules: when they are due, what they wait for, and that nothing is forced."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Device, DeviceKind, Event, EventKind, Host, Role, Severity
from tests.people import script
from tests.training.reference_jobs import existing_job, ready_host
from training.jobs import schedules
from training.jobs.cron import CronInvalid, due_at
from training.jobs.schedules import Plan, ScheduleInvalid, keep
from training.jobs.selection import Selection
from training.jobs.visits import PATIENCE, follow
from training.models import JobState, ReferenceJob, Schedule, ScheduledVisit, Trigger

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # a Friday
ADA = Actor("ada")


@pytest.fixture(autouse=True)
def _orders(outbox):
    """Orders go into the outbox."""


def nightly(**fields: object) -> Schedule:
    given = {"cron": "0 3 * * *", "selection": Selection(cluster="atlas"), "params": {"steps": 30}} | fields
    return keep(Plan("nightly", given.pop("workload", "gpt-train"), **given), actor=ADA, now=NOW)


def host(name: str = "a") -> Host:
    return ready_host(name, cluster="atlas")


def turn(at: datetime) -> list[ReferenceJob]:
    Host.objects.update(heard_at=at)
    follow(at)
    return list(ReferenceJob.objects.order_by("pk"))


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * *", datetime(2026, 11, 28, 3, 0, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 11, 27, 12, 15, tzinfo=UTC)),
        ("30 2 * * 0", datetime(2026, 11, 29, 2, 30, tzinfo=UTC)),
        ("30 2 * * 7", datetime(2026, 11, 29, 2, 30, tzinfo=UTC)),
        ("30 2 * * 6-7", datetime(2026, 11, 28, 2, 30, tzinfo=UTC)),
        ("30 2 * * 0-7", datetime(2026, 11, 28, 2, 30, tzinfo=UTC)),
        ("30 2 * * sun-7/2", datetime(2026, 11, 28, 2, 30, tzinfo=UTC)),
        ("0 0 * 12 1,7", datetime(2026, 12, 6, 0, 0, tzinfo=UTC)),
        ("0 0 1 1 *", datetime(2027, 1, 1, 0, 0, tzinfo=UTC)),
    ],
)
def test_a_cron_expression_names_its_next_moment(cron, expected):
    assert due_at(cron, NOW) == expected


@pytest.mark.parametrize("cron", ["", "0 3 * *", "61 * * * *", "x * * * *", "0 0 30 2 *"])
def test_what_is_no_cron_expression_is_refused(cron):
    with pytest.raises(CronInvalid):
        due_at(cron, NOW)


def test_it_runs_once_when_its_time_has_come():
    host()
    nightly()

    assert turn(NOW + timedelta(hours=14)) == []
    (job,) = turn(NOW + timedelta(hours=15, minutes=1))
    assert (job.requested_by, job.params["steps"]) == ("schedule nightly", 30)
    ReferenceJob.objects.update(state=JobState.DONE)
    assert len(turn(NOW + timedelta(hours=15, minutes=5))) == 1
    assert len(turn(NOW + timedelta(hours=39, minutes=5))) == 2


def test_a_pause_of_many_nights_is_made_up_for_once():
    host()
    nightly()

    turn(NOW + timedelta(days=9))

    assert len(turn(NOW + timedelta(days=9, minutes=1))) == 1


def test_a_busy_host_is_waited_for_and_then_left_out_with_its_reason():
    existing_job(host(), JobState.RUNNING)
    nightly()
    due = NOW + timedelta(hours=15, minutes=1)

    assert len(turn(due)) == 1
    turn(due + PATIENCE + timedelta(minutes=1))

    visit = ScheduledVisit.objects.get()
    assert visit.job is None
    assert "is busy with reference job" in visit.outcome


def test_a_visit_says_what_it_waits_for_until_it_starts():
    other = existing_job(host(), JobState.RUNNING)
    nightly()
    due = NOW + timedelta(hours=15, minutes=1)

    turn(due)
    assert ScheduledVisit.objects.get().outcome == f"a is busy with reference job {other.pk} (gpt-train)"
    Host.objects.update(heard_at=None)
    follow(due + timedelta(minutes=1))
    assert ScheduledVisit.objects.get().outcome == "a is silent"
    ReferenceJob.objects.update(state=JobState.DONE)
    turn(due + timedelta(minutes=2))

    visit = ScheduledVisit.objects.get()
    assert (visit.outcome, visit.job is None) == ("", False)


def test_what_will_never_start_is_left_out_at_once_with_its_reason():
    distributed()
    Host.objects.get(name="b").delete()

    turn(NOW + timedelta(hours=15, minutes=1))

    visit = ScheduledVisit.objects.get()
    assert visit.ended_at is not None
    assert "takes 2 to" in visit.outcome


def test_it_starts_as_soon_as_the_host_is_idle():
    other = existing_job(host(), JobState.RUNNING)
    nightly()
    due = NOW + timedelta(hours=15, minutes=1)
    turn(due)

    ReferenceJob.objects.filter(pk=other.pk).update(state=JobState.DONE)

    assert len(turn(due + timedelta(hours=1))) == 2


@pytest.mark.parametrize("trigger", list(Trigger))
def test_each_trigger_runs_it_on_the_host_to_which_it_happened(trigger):
    happened, other = host("a"), host("b")
    Device.objects.update(created_at=NOW - timedelta(days=1))
    nightly(cron="", triggers=[trigger.value])
    at = NOW + timedelta(minutes=2)
    about = {"severity": Severity.INFO, "text": "", "first_at": at, "last_at": NOW, "host": happened}
    if trigger is Trigger.HOST_BACK:
        Event.objects.create(kind=EventKind.HEALTH, rule="host_silent", subject="host:a", resolved_at=at, **about)
    elif trigger is Trigger.SOFTWARE_CHANGED:
        Event.objects.create(kind=EventKind.SOFTWARE_CHANGED, **about)
    else:
        Device.objects.create(host=happened, uuid="new", kind=DeviceKind.NVIDIA, index=1, created_at=at)

    jobs = turn(NOW + timedelta(minutes=3))

    assert [job.host for job in jobs] == [happened]
    assert ScheduledVisit.objects.get().why == trigger.label
    assert other not in {job.host for job in turn(NOW + timedelta(minutes=6))}


def distributed(**fields: object) -> Schedule:
    for name in "ab":
        host(name)
    return nightly(as_one=True, **fields)


def test_a_distributed_one_starts_one_job_whose_ranks_are_on_all_its_hosts():
    distributed()

    jobs = turn(NOW + timedelta(hours=15, minutes=1))

    assert [(job.host.name, job.rank, job.team.world_size) for job in jobs] == [("a", 0, 2), ("b", 1, 2)]
    assert [visit.job for visit in ScheduledVisit.objects.order_by("pk")] == jobs
    assert turn(NOW + timedelta(hours=15, minutes=2)) == jobs


@pytest.mark.parametrize("hindrance", ["busy", "silent"])
def test_a_distributed_one_waits_for_all_its_hosts_and_holds_none_meanwhile(hindrance):
    distributed()
    away = Host.objects.get(name="b")
    due = NOW + timedelta(hours=15, minutes=1)
    Host.objects.update(heard_at=due)
    if hindrance == "busy":
        existing_job(away, JobState.RUNNING)
    else:
        Host.objects.filter(pk=away.pk).update(heard_at=None)
    follow(due)
    assert ReferenceJob.objects.filter(requested_by="schedule nightly").count() == 0

    ReferenceJob.objects.update(state=JobState.DONE)
    turn(due + timedelta(hours=1))

    assert ReferenceJob.objects.filter(requested_by="schedule nightly").count() == 2


def test_a_distributed_one_whose_host_stays_busy_is_left_out_whole():
    distributed()
    existing_job(Host.objects.get(name="b"), JobState.RUNNING)
    due = NOW + timedelta(hours=15, minutes=1)
    turn(due)
    turn(due + PATIENCE + timedelta(minutes=1))

    assert [(visit.job, "b is busy" in visit.outcome) for visit in ScheduledVisit.objects.all()] == [(None, True)] * 2


def test_what_happened_to_one_host_runs_a_distributed_one_on_all_of_them_once():
    distributed(cron="", triggers=["host_back"])
    about = {"severity": Severity.INFO, "text": "", "first_at": NOW, "last_at": NOW, "rule": "host_silent"}
    for name in "ab":
        back = {
            "subject": f"host:{name}",
            "host": Host.objects.get(name=name),
            "resolved_at": NOW + timedelta(minutes=2),
        }
        Event.objects.create(kind=EventKind.HEALTH, **about, **back)

    assert len(turn(NOW + timedelta(minutes=3))) == 2
    ReferenceJob.objects.update(state=JobState.DONE)
    assert len(turn(NOW + timedelta(minutes=4))) == 2
    assert [len(visit.causes) for visit in ScheduledVisit.objects.all()] == [2, 2]


def test_a_host_that_comes_while_a_distributed_one_waits_is_taken_the_next_time():
    distributed()
    existing_job(Host.objects.get(name="b"), JobState.RUNNING)
    turn(NOW + timedelta(hours=15, minutes=1))
    host("c")
    nightly_again = NOW + timedelta(hours=39, minutes=1)
    ScheduledVisit.objects.update(due_at=nightly_again)
    turn(nightly_again)
    assert ScheduledVisit.objects.count() == 2

    ReferenceJob.objects.update(state=JobState.DONE)
    turn(nightly_again + timedelta(hours=1))
    ReferenceJob.objects.update(state=JobState.DONE)
    jobs = turn(NOW + timedelta(hours=64))

    assert [job.host.name for job in jobs[-3:]] == ["a", "b", "c"]


def test_one_that_was_switched_off_does_nothing():
    host()
    nightly()
    Schedule.objects.update(is_active=False)

    assert turn(NOW + timedelta(days=2)) == []


def test_a_paused_schedule_starts_nothing_and_does_not_make_up_for_it():
    existing_job(host(), JobState.RUNNING)
    schedule = nightly()
    due = NOW + timedelta(hours=15, minutes=1)
    turn(due)

    assert schedules.pause(schedule, actor=ADA, now=due)
    ReferenceJob.objects.update(state=JobState.DONE)
    assert len(turn(due + timedelta(days=2))) == 1
    assert schedules.resume(schedule, actor=ADA, now=due + timedelta(days=2))

    assert len(turn(due + timedelta(days=2, hours=1))) == 1
    assert len(turn(due + timedelta(days=3))) == 2
    assert ScheduledVisit.objects.last().outcome == schedules.PAUSED


def test_what_is_changed_holds_from_then_on():
    host()
    schedule = nightly()

    schedules.change(schedule, Plan("weekly", "gpt-train", Selection(cluster="atlas"), "0 3 * * 0"), actor=ADA, now=NOW)

    assert turn(NOW + timedelta(hours=16)) == []
    assert [job.requested_by for job in turn(NOW + timedelta(days=2))] == ["schedule weekly"]


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [({"as_one": True}, schedules.CHANGED), ({"selection": Selection(model="H100")}, schedules.CHANGED), ({}, "")],
)
def test_what_waits_for_its_host_waits_on_only_where_the_hosts_stay_those_they_were(fields, outcome):
    host("b")
    existing_job(host("a"), JobState.RUNNING)
    schedule = nightly()
    due = NOW + timedelta(hours=15, minutes=1)
    turn(due)

    given = {"selection": Selection(cluster="atlas"), "cron": "0 4 * * *"} | fields
    schedules.change(schedule, Plan("nightly", "gpt-train", **given), actor=ADA, now=due)
    ReferenceJob.objects.update(state=JobState.DONE)
    jobs = turn(due + timedelta(minutes=1))

    assert ScheduledVisit.objects.get(host__name="a").outcome == outcome
    assert len(jobs) == (2 if outcome else 3)


def test_every_change_stands_in_the_audit_log():
    schedule = nightly()
    schedules.change(schedule, Plan("late", "gpt-train", Selection(model="H100"), "0 4 * * *"), actor=ADA, now=NOW)
    schedules.pause(schedule, actor=ADA, now=NOW)
    schedules.resume(schedule, actor=ADA, now=NOW)
    schedules.remove(schedule, actor=ADA)

    said = list(AuditEntry.objects.order_by("pk").values_list("action", "subject"))
    assert said == [
        ("reference.schedule", "nightly"), ("reference.schedule_change", "late"), ("reference.schedule_pause", "late"),
        ("reference.schedule_resume", "late"), ("reference.unschedule", "late"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "never"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": f"{','.join(map(str, range(60)))} * * * *"}, "cron"),
        ({"triggers": ["full_moon"]}, "triggers"),
        ({"selection": Selection()}, "selection"),
        ({"params": {}, "workload": "gpt-generate", "as_one": True}, "workload"),
    ],
)
def test_a_schedule_that_says_nothing_useful_is_refused(fields, field):
    with pytest.raises(ScheduleInvalid) as refused:
        nightly(**fields)

    assert refused.value.field == field


def test_a_removed_schedule_takes_its_visits_with_it():
    host()
    schedule = nightly()
    turn(NOW + timedelta(hours=16))

    schedules.remove(schedule, actor=ADA)

    assert not ScheduledVisit.objects.exists()
    assert ReferenceJob.objects.count() == 1


API = "/api/v1/reference/schedules"
ORDER = {"name": "nightly", "workload": "gpt-train", "cluster": "atlas", "cron": "0 3 * * *"}


def test_a_script_keeps_lists_and_removes_a_schedule():
    client = script(Role.OPERATOR)

    kept = client.post(API, ORDER, content_type="application/json")

    assert kept.status_code == 201
    assert client.get(API).json()["items"][0]["next_at"].endswith("03:00:00Z")
    own = f"{API}/{kept.json()['id']}"
    changed = client.put(own, ORDER | {"cron": "30 4 * * *", "n_devices": 2}, content_type="application/json").json()
    assert (changed["next_at"][-9:], changed["selection"]["n_devices"]) == ("04:30:00Z", 2)
    assert (client.post(f"{own}/pause").json()["next_at"], client.get(own).json()["is_active"]) == (None, False)
    assert client.post(f"{own}/resume").json()["is_active"]
    together = client.put(own, ORDER | {"mode": "distributed"}, content_type="application/json").json()
    assert (together["mode"], together["selection"]["per"], changed["mode"]) == ("distributed", "device", "jobs")
    assert client.delete(f"{API}/{kept.json()['id']}").status_code == 204
    assert client.delete(f"{API}/{kept.json()['id']}").status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [({"cron": "soon"}, "cron"), ({"workload": "none"}, "workload"), ({"cluster": ""}, "selection")],
)
def test_a_bad_schedule_is_refused_with_its_field(change, field):
    answer = script(Role.OPERATOR).post(API, ORDER | change, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_only_operators_keep_schedules(client):
    assert client.get(API).status_code == 401
    assert script(Role.VIEWER).post(API, ORDER, content_type="application/json").status_code == 403
