"""What the fleet page and the charts of hosts pull from training: two tiles, the standing of devices, reference jobs as marks."""

from datetime import timedelta

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from tests.factories import make_device, make_host
from tests.telemetry.test_accounts import roll_up
from tests.training.pages import text
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.runs import goes_on, make_run, rank_steps
from tests.training.stored_steps import enter
from training.models import FleetMfu, JobState, Outcome, Run, Verdict
from training.runs import mfu_history, summaries

pytestmark = pytest.mark.django_db


def test_without_a_run_the_tiles_say_so(viewer: Client):
    page = text(viewer.get("/runs/headlines/"))
    assert page.count("no training run reports now") == 2


def test_mfu_is_the_mean_over_runs_each_weighted_with_its_ranks(viewer: Client):
    great, small, ended = goes_on(make_run("great", 3)), goes_on(make_run("small", 1)), make_run("ended", 4)
    for run, ratio in ((great, 0.5), (small, 0.1), (ended, 0.9)):
        Run.objects.filter(pk=run.pk).update(mfu_ratio=ratio)
    page = text(viewer.get("/runs/headlines/"))
    assert "40 %" in page.replace("\u202f", " ")
    assert "over 2 of 2 runs, by ranks" in page
    assert f'href="/runs/{great.pk}/"' in viewer.get("/runs/headlines/").content.decode()


def noted_hour(run: Run, ratio: float, end, *, minutes: int = 60) -> None:
    """Let a run have that MFU in each minute of the hour before a moment."""
    Run.objects.filter(pk=run.pk).update(mfu_ratio=ratio)
    for minute in range(minutes):
        mfu_history.note(end - timedelta(minutes=minute))


def test_mfu_of_the_last_hour_stands_beside_the_same_hour_of_the_day_before(viewer: Client):
    now, run = timezone.now(), goes_on(make_run("llm", 2))
    noted_hour(run, 0.4, now - timedelta(days=1))
    noted_hour(run, 0.45, now)

    assert mfu_history.growth(None, now) == pytest.approx(0.05)
    assert mfu_history.growth("elsewhere", now) is None
    assert "↑ 5.0 pp in a day · over 1 of 1 run" in text(viewer.get("/runs/headlines/"))


def test_an_hour_of_which_a_quarter_is_unknown_is_not_compared():
    now, run = timezone.now(), goes_on(make_run("llm", 2))
    noted_hour(run, 0.4, now - timedelta(days=1), minutes=44)
    noted_hour(run, 0.45, now)

    assert mfu_history.growth(None, now) is None


def test_clusters_count_by_their_ranks_and_what_is_old_is_forgotten():
    now = timezone.now()
    great, small = goes_on(make_run("great", 3)), goes_on(make_run("small", 1, host=make_host("b", cluster="b")))
    Run.objects.filter(pk=great.pk).update(mfu_ratio=0.5)
    Run.objects.filter(pk=small.pk).update(mfu_ratio=0.1)
    mfu_history.note(now)
    mfu_history.note(now)
    assert {row.cluster: (row.weighted, row.ranks) for row in FleetMfu.objects.all()} == {"": (1.5, 3), "b": (0.1, 1)}

    mfu_history.note(now + timedelta(days=2))
    assert FleetMfu.objects.count() == 2


def stepping_since_yesterday(now_ms: int) -> Run:
    """A run that did twice as much a second in the last hour as in the same one a day ago, at the same power."""
    host = make_host("gpu-a01")
    device = make_device(host)
    for end_ms, seconds in ((now_ms - 86_400_000, 2.0), (now_ms, 1.0)):
        n, start_ms = int(7200 / seconds), end_ms - 7_200_000
        ended = start_ms + 1000.0 * seconds * np.arange(1, n + 1)
        enter(host, rank_steps(0, n, ended_ms=ended, seconds=np.full(n, seconds)), devices=(device.uuid,))
        for minute_ms in range(start_ms // 60_000 * 60_000, end_ms, 60_000):
            roll_up(host, {device: 500.0 * 60}, start_ms=minute_ms, step_seconds=60)
    return Run.objects.get()


def test_work_per_joule_stands_beside_what_the_same_run_did_a_day_before(viewer: Client):
    run = goes_on(stepping_since_yesterday(int(timezone.now().timestamp() * 1000)))

    assert f"↑ 100.0 % in a day · {run.name}, last 1 h" in text(viewer.get("/runs/headlines/"))


def test_a_run_that_did_not_go_a_day_before_is_not_compared():
    run, now = goes_on(make_run("llm", 1)), timezone.now()
    Run.objects.filter(pk=run.pk).update(started_at=now - timedelta(hours=24))
    run.refresh_from_db()

    assert summaries.day_before(run, 3_600_000, now) is None


def judged(job, deviation: float) -> None:
    now = timezone.now()
    screens = [{"side": "own", "metric": "step_seconds_median", "z": 5.0, "deviation": deviation, "n": 9}]
    Verdict.objects.create(
        job=job, device_key=job.device_id, outcome=Outcome.SLOW, screens=screens, ended_at=now, judged_at=now
    )


def test_a_device_stands_where_its_slowest_workload_does_and_names_its_run(viewer: Client):
    host = ready_host("gpu-a01")
    device = host.devices.get()
    judged(existing_job(host, JobState.DONE, workload="gpt-train"), -0.11)
    judged(existing_job(host, JobState.DONE, workload="resnet-train"), 0.02)
    goes_on(make_run("llm-7b", 1, host=host))

    told = viewer.get("/reference/standing/").json()
    assert told["deviation"] == {"id": [device.pk], "ratio": [-0.11], "workload": ["gpt-train"]}
    assert told["run"] == {"id": [device.pk], "name": ["llm-7b"]}


def test_reference_jobs_of_the_window_are_spans_and_one_that_runs_goes_on_until_now(viewer: Client):
    host, now = ready_host("gpu-a01"), timezone.now()
    existing_job(host, JobState.DONE, started_at=now - timedelta(minutes=30), ended_at=now - timedelta(minutes=20))
    existing_job(host, JobState.DONE, started_at=now - timedelta(hours=9), ended_at=now - timedelta(hours=8))
    existing_job(host, JobState.RUNNING, workload="resnet-train", started_at=now - timedelta(minutes=5))

    found = viewer.get("/reference/marks/?host=gpu-a01&range=1h").json()["marks"]
    assert [mark["label"] for mark in found] == ["resnet-train", "gpt-train"]
    assert found[1]["until"] - found[1]["at"] == 600_000
    assert abs(found[0]["until"] - now.timestamp() * 1000) < 60_000
