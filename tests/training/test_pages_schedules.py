"""The pages of schedules: the list, the form with its live count, and the buttons."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import AuditEntry
from tests.training.pages import PARAMS, text
from tests.training.reference_jobs import existing_job, ready_host
from training.models import JobState, Schedule, ScheduledVisit

pytestmark = pytest.mark.django_db
LIST, NEW = "/reference/schedules/", "/reference/schedules/new/"


def filled(**fields):
    params = {name: str(value) for name, value in PARAMS.items()}
    return {"name": "nightly", "workload": "gpt-train", "cron": "0 3 * * *", "cluster": "atlas", **params, **fields}


@pytest.fixture
def kept(operator):
    ready_host("a", cluster="atlas")
    operator.post(NEW, filled(trigger=["device_new"], labels="rack=1", per="device", n_devices="2"))
    return Schedule.objects.get()


def test_a_schedule_is_made_by_the_form_and_shown_in_the_list(operator, kept):
    assert kept.selection == {"cluster": "atlas", "model": "", "labels": {"rack": "1"}, "per": "device", "n_devices": 2}
    assert (kept.created_by, AuditEntry.objects.get().action) == ("operator", "reference.schedule")

    shown = text(operator.get(LIST))
    assert "nightly gpt-train cluster atlas, rack=1, each device" in shown
    assert "after: device new or replaced" in shown
    assert "03:00" in shown
    assert "not due yet" in shown


def test_its_page_fills_in_what_it_says_and_changes_it(operator, kept):
    path = f"{LIST}{kept.pk}/"
    page = operator.get(path).content.decode()
    for value in ('value="nightly"', 'value="0 3 * * *"', 'value="rack=1"', 'value="device_new" checked', 'value="2"'):
        assert value in page

    assert operator.post(path, filled(name="late", cron="30 4 * * *", seed="7")).url == path

    kept.refresh_from_db()
    assert (kept.name, kept.cron, kept.params["seed"], kept.triggers) == ("late", "30 4 * * *", 7, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "give a name"),
        ({"cron": "0 3 * *"}, "expected minute, hour, day of month"),
        ({"cron": "0 0 30 2 *"}, "unable to rollover"),
        ({"cron": ""}, "say when: a cron expression, triggers, or both"),
        ({"cluster": ""}, "give a cluster, labels or a part of the device model"),
        ({"labels": "rack"}, "expected key=value"),
        ({"steps": "4"}, "4 is not between 5 and 100000"),
        ({"workload": "mine-coins"}, "is not one of resnet-train"),
        ({"trigger": ["full_moon"]}, "is not one of host_back"),
        ({"per": "device", "n_devices": "many"}, "is not between 1 and 64"),
        (
            {"per": "distributed", "workload": "gpt-generate"},
            "gpt-generate does not run as one job over several devices",
        ),
        ({"per": "rack"}, "is not one of host, device, distributed"),
    ],
)
def test_a_wrong_schedule_comes_back_with_the_reason(operator, change, words):
    response = operator.post(NEW, filled(**change))

    assert response.status_code == 400
    assert words in text(response)
    assert not Schedule.objects.exists()


def test_a_distributed_one_is_made_by_the_form_says_so_and_stays_so_when_it_is_changed(operator):
    for name in ("a", "b"):
        ready_host(name, cluster="atlas")
    asked = {"part": "before", "cluster": "atlas", "per": "distributed"}
    shown = text(operator.get(NEW, asked))
    assert "Selects 2 hosts , one job of 2 ranks" in shown
    assert "it starts when all its hosts are there and idle" in shown

    path = operator.post(NEW, filled(per="distributed")).url

    assert Schedule.objects.get().as_one
    assert "nightly gpt-train cluster atlas, one job over all" in text(operator.get(LIST))
    assert '<option value="distributed" selected>' in operator.get(path).content.decode()


def test_the_choice_of_a_workload_says_whether_it_may_be_one_job_over_all(operator):
    ready_host("a")
    offered = {
        name: 'value="distributed"' in operator.get(NEW, {"part": "settings", "workload": name}).content.decode()
        for name in ("gpt-train", "gpt-generate")
    }
    assert offered == {"gpt-train": True, "gpt-generate": False}


def test_while_it_is_filled_in_it_tells_what_it_selects_and_when_it_is_due(operator):
    for name in ("a", "b"):
        existing_job(ready_host(name, cluster="atlas", labels={"rack": name}), JobState.RUNNING)  # it waits for both

    shown = text(operator.get(NEW, {"part": "before", "cluster": "atlas", "cron": "0 3 * * *"}))
    assert "Selects 2 hosts , 2 jobs" in shown
    assert shown.count("03:00") >= 3
    assert "Selects 1 host , 1 job" in text(operator.get(NEW, {"part": "before", "labels": "rack=a"}))
    assert "no host fits that selection" in text(operator.get(NEW, {"part": "before", "model": "H100"}))


def test_it_is_paused_resumed_and_deleted(operator, kept):
    path = f"{LIST}{kept.pk}/"
    operator.post(f"{path}pause/", {"do": "pause"})
    assert "paused" in text(operator.get(LIST))
    operator.post(f"{path}pause/", {"do": "resume"})
    assert "paused" not in text(operator.get(LIST))

    assert operator.post(f"{path}remove/").url == LIST
    assert operator.get(path).status_code == 404


def test_the_list_and_the_page_tell_what_it_started_and_why_not(operator, kept):
    host, now = ready_host("b"), timezone.now()
    old = {"schedule": kept, "why": "its time", "due_at": now - timedelta(days=1), "ended_at": now}
    ScheduledVisit.objects.create(host=host, job=existing_job(host, JobState.FAILED), **old)
    new = old | {"due_at": now}
    ScheduledVisit.objects.create(host=host, job=existing_job(host, JobState.DONE), **new)
    ScheduledVisit.objects.create(host=host, outcome="b is busy with reference job 7", **new)
    ScheduledVisit.objects.create(host=host, **new | {"ended_at": None})

    shown = text(operator.get(LIST))
    assert "done 1 · left out 1 · waiting 1" in shown
    assert "failed" not in shown
    page = text(operator.get(f"{LIST}{kept.pk}/", headers={"HX-Request": "true"}))
    assert "b is busy with reference job 7" in page
    assert "failed" in page


def test_a_viewer_looks_and_changes_nothing(viewer):
    schedule = Schedule.objects.create(
        name="nightly", workload="gpt-train", selection={"cluster": "atlas"}, cron="0 3 * * *"
    )
    path = f"{LIST}{schedule.pk}/"

    assert "Changing schedules needs the role operator" in text(viewer.get(path))
    assert [viewer.post(each).status_code for each in (NEW, path, f"{path}pause/", f"{path}remove/")] == [403] * 4


def test_who_is_not_signed_in_is_led_to_the_login(client):
    assert [client.get(path).url.split("?")[0] for path in (LIST, NEW)] == ["/login/"] * 2


def test_the_form_says_where_no_alert_would_tell_that_a_host_came_back(operator, monkeypatch):
    monkeypatch.setattr("telemetry.health.thresholds.in_force", dict)

    assert "while the rule “Host silent” is off" in text(operator.get(NEW))
