"""A distributed job on the pages and in the API: one line in tables, its ranks on its page, and the choice in the form."""

import numpy as np
import pytest

from fleet.models import DeviceKind
from tests.training.pages import LAUNCH, form, text
from tests.training.reference_jobs import ready_host
from tests.training.stored_steps import columns, put
from tests.training.teams import MEETING, distributed, running, say
from training.models import ReferenceJob, Run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _orders(outbox):
    """Orders go into the outbox."""


def with_steps(head: ReferenceJob) -> None:
    """Store 4 steps of both ranks, of which the second computes twice as long."""
    run = Run.objects.create(name="reference gpt-train", launch=f"reference-{head.pk}", host=head.host)
    for rank, own in enumerate((0.1, 0.2)):
        number = np.arange(1, 5)
        told = columns(
            *[0.25] * 4, number=number, ended_ms=1_700_000_000_000 + 250 * number, rank=[rank] * 4,
            compute_seconds=[own] * 4, samples=[8] * 4, loss=[4.0 + rank] * 4, is_warmup=[False] * 4,
        )  # fmt: skip
        put(run, told)
    ReferenceJob.objects.filter(pk=head.pk).update(run=run)


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


def test_a_ranks_own_page_leads_to_the_job(viewer):
    head, other = running("a", "b")
    seen = viewer.get(f"/reference/{other.pk}/")
    assert "Rank 1 of a distributed job" in text(seen)
    assert f"/reference/{head.pk}/" in seen.content.decode()


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
