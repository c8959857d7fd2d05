"""What training tells Prometheus: jobs by state, newest results, and the runs that step right now."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Device
from telemetry.exposition.textformat import render
from tests.telemetry.exposed import NOW, make_host
from tests.telemetry.test_exposition import lints
from tests.training.stored_steps import columns, enter
from training.hooks.exposition import families
from training.models import JobState, ReferenceJob, Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def device() -> Device:
    return make_host()


def make_job(device: Device, state: JobState, **fields: object) -> ReferenceJob:
    return ReferenceJob.objects.create(
        launch="l1",
        workload="gpt-train",
        host=device.host,
        device=device,
        time_limit_seconds=600,
        requested_by="ada",
        state=state,
        expires_at=NOW,
        **fields,
    )


def make_run(device: Device, *, seconds_ago: float = 1) -> Run:
    """Return a run of four steps, the first of them warm-up."""
    seen_ms = (NOW - timedelta(seconds=seconds_ago)).timestamp() * 1000
    told = columns(30.0, 0.2, 0.3, 0.25, samples=[8] * 4, is_warmup=[True, False, False, False])
    told = replace(told, ended_ms=told.ended_ms - told.ended_ms[-1] + seen_ms)
    return enter(device.host, told, newest_sequence=5, process="p0")


def expose(device: Device) -> str:
    return render(families([device.host], NOW), openmetrics=False)


def values(text: str, name: str, label: str = "") -> dict[str, float]:
    """Return value by one label of the samples of a name."""
    found = [sample for family in read_text(text) for sample in family.samples if sample.name == name]
    return {sample.labels.get(label, ""): sample.value for sample in found}


def test_jobs_are_counted_by_state(device: Device) -> None:
    for state in (JobState.DONE, JobState.DONE, JobState.RUNNING):
        make_job(device, state)
    assert values(expose(device), "stepwatt_reference_jobs", "state") == {"done": 2, "running": 1}


def test_the_newest_result_of_a_device_is_told(device: Device) -> None:
    make_job(device, JobState.DONE, result={"samples_per_second": 100.0}, energy={"reason": "unknown"})
    make_job(device, JobState.DONE, result={"samples_per_second": 200.0}, energy={"samples_per_joule": 0.5})
    make_job(device, JobState.FAILED, result={"samples_per_second": 1.0})
    assert values(expose(device), "stepwatt_reference_samples_per_second", "workload") == {"gpt-train": 200}
    assert values(expose(device), "stepwatt_reference_samples_per_joule", "workload") == {"gpt-train": 0.5}


def test_an_unknown_efficiency_is_left_out(device: Device) -> None:
    make_job(device, JobState.DONE, result={"samples_per_second": 100.0}, energy={"reason": "no power reading"})
    assert "joule" not in expose(device)


def test_a_run_counts_its_samples_after_the_warm_up(device: Device) -> None:
    make_run(device)
    assert values(expose(device), "stepwatt_training_samples_total", "run") == {"llm": 24}


def test_a_run_sorts_its_step_times_into_buckets(device: Device) -> None:
    make_run(device)
    buckets = values(expose(device), "stepwatt_training_step_seconds_bucket", "le")
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (0, 2, 3, 3)
    assert values(expose(device), "stepwatt_training_step_seconds_sum") == {"": 0.75}


def test_frames_that_never_came_are_counted(device: Device) -> None:
    make_run(device)
    assert values(expose(device), "stepwatt_training_lost_datagrams_total", "launch") == {"l1": 2}


def test_the_ranks_of_a_run_are_one_series(device: Device) -> None:
    make_run(device)
    enter(device.host, columns(0.2, samples=[8], first_ms=NOW.timestamp() * 1000), rank=1, process="p1")
    assert values(expose(device), "stepwatt_training_samples_total", "run") == {"llm": 32}
    assert "rank=" not in expose(device)


def test_a_run_that_no_longer_steps_leaves(device: Device) -> None:
    make_run(device, seconds_ago=301)
    assert expose(device) == ""


def test_both_parsers_and_promtool_accept_it(device: Device) -> None:
    make_run(device)
    make_job(device, JobState.DONE, result={"samples_per_second": 1.5}, energy={"samples_per_joule": 0.5})
    found = list(read_openmetrics(render(families([device.host], NOW), openmetrics=True)))
    assert [family.type for family in found] == ["gauge", "gauge", "gauge", "counter", "counter", "histogram"]
    assert lints(expose(device)) == set()


def test_other_hosts_are_left_out(device: Device) -> None:
    make_run(device)
    other = make_host("gpu-a02", uuid="GPU-2")
    assert expose(other) == ""
