"""What the fleet page and the charts of hosts pull from training: two tiles, the standing of devices, reference jobs as marks."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tests.training.pages import text
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.runs import goes_on, make_run
from training.models import JobState, Outcome, Run, Verdict

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
    assert "MFU of 2 of 2 running runs" in page
    assert f'href="/runs/{great.pk}/"' in viewer.get("/runs/headlines/").content.decode()


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
