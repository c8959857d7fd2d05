"""A distributed job on the pages and in the API: one line in tables, its ranks on its page, and the choice in the form."""

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from fleet.models import DeviceKind, Host
from tests.factories import make_chunks, make_latest
from tests.training.pages import LAUNCH, form, text
from tests.training.reference_jobs import ready_host
from tests.training.stored_steps import columns, put
from tests.training.teams import MEETING, distributed, now_of, running, say
from training.jobs.watch import watch
from training.models import ReferenceJob, Run
from training.reference.order import LEFT

pytestmark = pytest.mark.django_db
START_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _orders(outbox):
    """Orders go into the outbox."""


def with_steps(head: ReferenceJob, n_steps: int = 4) -> None:
    """Store steps of 0.25 s of both ranks, of which the second computes twice as long."""
    run = Run.objects.create(name="reference gpt-train", launch=f"reference-{head.pk}", host=head.host)
    for rank, own in enumerate((0.1, 0.2)):
        number = np.arange(1, n_steps + 1)
        told = columns(
            *[0.25] * n_steps, number=number, ended_ms=START_MS + 250 * number, rank=[rank] * n_steps,
            compute_seconds=[own] * n_steps, samples=[8] * n_steps, loss=[4.0 + rank] * n_steps, is_warmup=[False] * n_steps,
        )  # fmt: skip
        put(run, told)
    ReferenceJob.objects.filter(pk=head.pk).update(run=run)


def test_the_page_of_a_rank_that_has_ended_asks_on_until_all_have_as_another_may_be_the_cause(viewer):
    head, other = running("a", "b")
    say(head, "failed", f"{LEFT}Connection reset by peer")
    path = f"/reference/{head.pk}/"
    assert "data-final" not in viewer.get(path).content.decode()

    say(other, "lost", "the agent was stopped while the job ran, and ended it")

    page = viewer.get(path).content.decode()
    assert "data-final" in page
    assert "rank 1 on b: the agent was stopped while the job ran" in page


def test_the_page_shows_each_rank_and_whom_the_others_wait_for(viewer):
    head, other = running("a", "b")
    with_steps(head)

    seen = text(viewer.get(f"/reference/{head.pk}/"))

    assert "2 ranks on 2 hosts" in seen
    assert "gpt-train on 2 ranks" in seen
    assert "Join" in seen
    assert f"/reference/{other.pk}/log/" in viewer.get(f"/reference/{head.pk}/").content.decode()
    assert "100 ms 60 %" in seen
    assert "200 ms slowest 20 %" in seen
    assert "64 sequences/s" in seen  # 2 × 8 in 0.25 s


def powered(jobs, *, until_ms: int, **watts: float) -> None:
    """Have the hosts' CPUs tell their power each second from before the steps on; those without watts give none."""
    times = list(range(START_MS - 1_000, until_ms, 1_000))
    for job in jobs:
        draws = watts.get(job.host.name)
        if draws is not None:
            make_chunks(job.host, [job.device], times, {"power_draw_watts": [[draws] * len(times)]})
        readings = {} if draws is None else {"power_draw_watts": draws}
        lacks = {job.device: {"power_draw_watts": "no_permission"}}
        make_latest(job.host, {job.device: readings}, lacks if draws is None else None)


def figures_of(viewer, job) -> dict:
    return {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}


def test_power_and_samples_per_joule_of_a_running_job_are_of_all_its_devices(viewer):
    jobs = running("a", "b")
    with_steps(jobs[0], n_steps=20)
    powered(jobs, until_ms=START_MS + 6_000, a=30.0, b=50.0)

    figures = figures_of(viewer, jobs[0])

    assert (figures["Power, now"].value, figures["Power, now"].note) == (80.0, "of 2 devices")
    assert figures["Samples per joule"].value == pytest.approx(2 * 8 / 0.25 / 80, rel=0.01)
    assert figures["Samples per joule"].note == "so far, estimated,"
    assert figures_of(viewer, jobs[1])["Power, now"].value == 50.0


def test_steps_count_against_energy_only_as_far_as_every_device_has_told_its_own(viewer):
    jobs = running("a", "b")
    with_steps(jobs[0], n_steps=40)
    powered(jobs[:1], until_ms=START_MS + 12_000, a=30.0)
    powered(jobs[1:], until_ms=START_MS + 5_000, b=50.0)

    found = figures_of(viewer, jobs[0])["Samples per joule"]

    assert found.value == pytest.approx(2 * 8 / 0.25 / 80, rel=0.01)
    assert found.note_value == pytest.approx(80 * 4, rel=0.1)


def test_of_which_rank_power_is_unknown_is_said_with_the_reason(viewer):
    jobs = running("a", "b")
    with_steps(jobs[0], n_steps=20)
    powered(jobs, until_ms=START_MS + 6_000, a=30.0)

    figures = figures_of(viewer, jobs[0])

    for label in ("Power, now", "Samples per joule"):
        assert figures[label].value is None
        assert figures[label].why.startswith("rank 1 on b: the agent has no permission"), figures[label].why


def test_a_silent_host_and_a_device_that_is_gone_are_said_too(viewer):
    jobs = running("a", "b")
    powered(jobs, until_ms=START_MS + 6_000, a=30.0, b=50.0)
    Host.objects.filter(name="b").update(heard_at=timezone.now() - timedelta(hours=1))
    assert figures_of(viewer, jobs[0])["Power, now"].why.startswith("rank 1 on b: ")

    jobs[1].device.delete()

    assert figures_of(viewer, jobs[0])["Power, now"].why == "rank 1 on b: the device is no longer known"


def test_the_energy_of_a_job_of_which_a_device_is_gone_is_unknown():
    jobs = running("a", "b")
    jobs[1].device.delete()
    window = {"window_start_ms": START_MS, "window_end_ms": START_MS + 5_000, "samples": 64}
    for job in reversed(jobs):
        say(job, "done", result=window)

    watch(timezone.now() + timedelta(minutes=5))

    assert "the device of a rank is gone" in now_of(jobs[0]).energy["reason"]


def test_the_energy_of_a_job_of_which_a_host_was_removed_is_unknown():
    jobs = running("a", "b")
    powered(jobs, until_ms=START_MS + 6_000, a=30.0, b=50.0)
    window = {"window_start_ms": START_MS, "window_end_ms": START_MS + 5_000, "samples": 64}
    for job in reversed(jobs):
        say(job, "done", result=window)
    jobs[1].host.delete()

    watch(timezone.now() + timedelta(minutes=5))

    assert now_of(jobs[0]).energy == {"reason": "a host of it was removed, and with it a part of the energy"}


def test_power_and_samples_per_joule_of_the_ranks_that_are_left_are_not_the_jobs(viewer):
    jobs = running("a", "b")
    with_steps(jobs[0], n_steps=20)
    powered(jobs, until_ms=START_MS + 6_000, a=30.0, b=50.0)
    jobs[1].host.delete()

    figures = figures_of(viewer, jobs[0])

    for label in ("Power, now", "Samples per joule"):
        assert figures[label].value is None
        assert figures[label].why == "a host of the job was removed, and its devices are no longer known"


def test_a_ranks_own_page_leads_to_the_job(viewer):
    head, other = running("a", "b")
    seen = viewer.get(f"/reference/{other.pk}/")
    assert "Rank 1 of a distributed job" in text(seen)
    assert f"/reference/{head.pk}/" in seen.content.decode()


def test_the_page_of_its_launch_is_its_own(viewer):
    head, _ = running("a", "b")
    answer = viewer.get(f"/reference/?view=launched&launch={head.launch}")
    assert (answer.status_code, answer.url) == (302, f"/reference/{head.pk}/")


def test_tables_have_one_line_and_the_host_of_a_rank_shows_its_own(viewer):
    head, other = running("a", "b")
    assert f"job {head.pk}, 2 ranks on 2 hosts" in text(viewer.get("/reference/?view=running"))
    assert f"job {other.pk}" not in text(viewer.get("/reference/?view=running"))
    assert viewer.get("/api/v1/reference/jobs").json()["count"] == 1
    assert viewer.get("/api/v1/reference/jobs?host=b").json()["items"][0]["id"] == other.pk


def test_a_rank_that_waits_for_rank_0_says_so(viewer):
    _, other = distributed("a", "b")
    assert "when rank 0 has said where the ranks meet" in text(viewer.get(f"/reference/{other.pk}/"))


def test_the_form_launches_one_job_over_all_devices_of_the_hosts(operator):
    ready_host("a", DeviceKind.CPU)
    ready_host("b", DeviceKind.CPU)
    assert "a rank on each device" in text(operator.get(LAUNCH))
    answer = operator.post(LAUNCH, form(host=["a", "b"], per="distributed"))
    head = ReferenceJob.objects.get(rank=0)
    assert answer.url == f"/reference/{head.pk}/"
    assert head.team.world_size == 2


def test_the_form_says_why_it_cannot_be_one_job(operator):
    ready_host("a", DeviceKind.CPU)
    answer = operator.post(LAUNCH, form(host=["a"], per="distributed"))
    assert answer.status_code == 400
    assert "takes 2 to" in text(answer)


@pytest.mark.parametrize(("workload", "is_offered"), [("vit-train", True), ("gemm-sweep", False)])
def test_the_form_offers_one_job_only_for_workloads_that_can_be_one(operator, workload, is_offered):
    ready_host("a", DeviceKind.CPU)
    for part in ("", "&part=settings"):
        seen = operator.get(f"{LAUNCH}&workload={workload}{part}").content.decode()
        assert ('value="distributed"' in seen) == is_offered


def test_a_workload_that_cannot_be_one_job_says_so_where_that_was_chosen_already(operator):
    ready_host("a", DeviceKind.CPU)
    seen = operator.get(f"{LAUNCH}&workload=gemm-sweep&per=distributed&part=settings").content.decode()
    assert 'hx-swap-oob="true"' in seen
    assert 'value="distributed" selected' in seen
    assert "gemm-sweep does not run as one job over several devices; resnet-train, vit-train" in seen


def test_the_catalogue_tells_which_workloads_may_be_one_job(operator):
    items = operator.get("/api/v1/reference/workloads").json()["items"]
    assert {item["name"] for item in items if not item["is_distributable"]} == {
        "gpt-generate", "resnet-infer", "gemm-sweep", "memory-bandwidth",
    }  # fmt: skip


def launch_by_api(operator, **order):
    body = {"workload": "gpt-train", "hosts": ["a", "b"], "mode": "distributed"} | order
    return operator.post("/api/v1/reference/jobs", body, content_type="application/json")


def test_the_api_launches_one_job_with_its_ranks(operator):
    for name in "ab":
        ready_host(name, DeviceKind.CPU)
    answer = launch_by_api(operator)
    assert answer.status_code == 201
    (item,) = answer.json()["items"]
    assert (item["world_size"], [rank["host"] for rank in item["ranks"]]) == (2, ["a", "b"])
    head = ReferenceJob.objects.get(pk=item["id"])
    say(head, "starting", meeting=MEETING)
    with_steps(head)
    found = operator.get(f"/api/v1/reference/jobs/{head.pk}").json()
    assert [rank["compute_seconds"] for rank in found["ranks"]] == [0.1, 0.2]
    steps = operator.get(f"/api/v1/reference/jobs/{head.pk}/steps").json()
    assert steps["loss"] == [4.5] * 4


@pytest.mark.parametrize(("order", "field"), [({"hosts": ["a"]}, "hosts"), ({"workload": "resnet-infer"}, "workload")])
def test_the_api_refuses_what_cannot_be_one_job(operator, order, field):
    for name in "ab":
        ready_host(name, DeviceKind.CPU)
    answer = launch_by_api(operator, **order)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
