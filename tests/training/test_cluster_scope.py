"""A cluster that was chosen holds on every page that speaks of the fleet, and is carried from one to the next."""

import re
from collections.abc import Mapping

import pytest
from django.utils import timezone

from fleet.models import Event, EventKind, Host, Origin, Severity
from fleet.web import shared_answer
from tests.factories import make_gpu_host, make_host
from tests.people import signed_in
from tests.training.judging.judged import board, judged, with_history
from tests.training.pages import text
from tests.training.reference_jobs import existing_job
from tests.training.runs import make_run
from training.models import JobState

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
SECTIONS = ("/", "/hosts/", "/runs/", "/reference/", "/power/", "/efficiency/", "/events/")
PAGES = (
    *SECTIONS, "/fleet/devices/", "/reference/?view=running", "/reference/ladders/", "/search/?q=gpu",
)  # fmt: skip
PANELS = (
    "/power/arrays/", "/power/days/", "/power/groups/", "/power/idle/", "/reference/matrix/", "/reference/results.csv",
    "/efficiency/", "/search/",
)  # fmt: skip


@pytest.fixture
def viewer():
    return signed_in()


@pytest.fixture
def two() -> Mapping[str, Host]:
    names = {"atlas": "gpu-a01", "borealis": "gpu-b01"}
    return {cluster: make_gpu_host(name, 1, cluster=cluster) for cluster, name in names.items()}


def within(path: str, cluster: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}cluster={cluster}"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_leads_on_to_the_chosen_cluster_and_offers_the_other(viewer, two, path):
    page = viewer.get(within(path, "atlas")).content.decode()

    for section in SECTIONS:
        assert f'href="{section}?cluster=atlas" data-go' in page
    assert "cluster=borealis" in page
    assert "of all clusters" not in page
    assert 'name="cluster" value="atlas"' in page.partition("data-find")[2].partition("</form>")[0]
    assert "cluster=" not in viewer.get(path).content.decode().partition("<main")[0].partition("</nav>")[0]


@pytest.mark.parametrize("path", [*PAGES, *PANELS])
def test_a_cluster_that_there_is_not_is_not_found(viewer, two, path):
    assert viewer.get(within(path, "atlas")).status_code == 200
    assert viewer.get(within(path, "nowhere")).status_code == 404


def test_a_page_that_speaks_of_all_clusters_says_so_and_leads_back(viewer, two):
    page = viewer.get("/reference/schedules/?cluster=atlas").content.decode()

    assert "of all clusters" in page
    assert 'href="/hosts/?cluster=atlas" data-go' in page
    assert "of all clusters" not in viewer.get("/reference/schedules/").content.decode()


def alert(host: Host | None, subject: str) -> None:
    now = timezone.now()
    Event.objects.create(
        kind=EventKind.HEALTH, severity=Severity.CRITICAL, rule="host_silent", subject=subject, text="x", host=host,
        first_at=now, last_at=now,
    )  # fmt: skip


def test_the_count_beside_events_is_that_of_the_page_which_it_leads_to(viewer, two):
    alert(two["atlas"], "host:gpu-a01")
    for subject in ("host:gpu-b01", "cluster:atlas", "server"):
        alert(two["borealis"] if "b01" in subject else None, subject)

    for query, n in (("", 4), ("?cluster=atlas", 2), ("?cluster=borealis", 1)):
        for path in ("/hosts/", "/fleet/agents/"):
            shared_answer.forget()
            assert f"{n} critical alert" in text(viewer.get(path + query))
        assert len(viewer.get(f"/events/{query}").context["rows"]) == n


def test_the_agents_at_the_foot_are_those_of_the_cluster(viewer, two):
    make_host("gpu-a02", cluster="atlas")

    assert "of 3 agents" in text(viewer.get("/hosts/"))
    page = viewer.get("/hosts/?cluster=atlas")
    assert "of 2 agents" in text(page)
    assert 'data-fresh="/fleet/agents/?cluster=atlas"' in page.content.decode()


def test_runs_are_those_in_which_a_host_of_the_cluster_takes_part(viewer, two):
    make_run("of-atlas", host=two["atlas"])
    make_run("of-borealis", host=two["borealis"])
    over_both = make_run("of-both", host=two["borealis"])
    over_both.ranks.filter(rank=1).update(host=two["atlas"])

    page = viewer.get("/runs/?cluster=atlas")

    assert {row.run.name for row in page.context["rows"]} == {"of-atlas", "of-both"}
    assert page.context["counts"]["all"] == 2
    file = viewer.get("/runs/?cluster=borealis&format=csv").content.decode()
    assert len(file.splitlines()) == 3


def test_a_cluster_without_a_run_is_no_fleet_without_any(viewer, two):
    make_run("of-borealis", host=two["borealis"])

    page = text(viewer.get("/runs/?cluster=atlas"))

    assert "No run fits this filter" in page
    assert "No training run yet" not in page


def test_reference_jobs_and_the_matrix_are_those_of_the_cluster(viewer):
    for name, cluster in (("gpu-01", "atlas"), ("gpu-02", "borealis"), ("gpu-03", "")):
        host = with_history(board(name))
        Host.objects.filter(pk=host.pk).update(cluster=cluster)
        judged(host)
        existing_job(host, JobState.RUNNING)

    for cluster, name in (("atlas", "gpu-01"), ("", "gpu-03")):
        results = viewer.get(f"/reference/?cluster={cluster}")
        assert {row.job.host.name for row in results.context["rows"]} == {name}
        assert "Running 1" in text(results)
        assert f'hx-get="/reference/matrix/?cluster={cluster}"' in results.content.decode()
        running = viewer.get(f"/reference/?view=running&cluster={cluster}")
        assert [row.job.host.name for row in running.context["rows"]] == [name]
        matrix = viewer.get(f"/reference/matrix/?cluster={cluster}").content.decode()
        assert re.findall(r'href="/reference/hosts/([\w-]+)/"', matrix) == [name]
        assert f"mode=eager&amp;cluster={cluster}" in matrix
        file = viewer.get(f"/reference/results.csv?cluster={cluster}").content.decode()
        assert {line.split(",")[1] for line in file.splitlines()[1:]} == {name}


def test_the_launch_form_begins_with_the_hosts_of_the_cluster(viewer):
    Host.objects.filter(pk=board("gpu-01").pk).update(cluster="atlas")
    results = viewer.get("/reference/?cluster=atlas").content.decode()
    link = re.search(r'href="(\?view=launch[^"]*)"', results)[1].replace("&amp;", "&")

    page = viewer.get(f"/reference/{link}").content.decode()

    assert re.search(r"<option[^>]* selected>atlas</option>", page)


def test_a_cluster_without_a_real_host_says_that_none_is_chosen(viewer, two):
    Host.objects.update(origin=Origin.SIMULATED)

    page = text(viewer.get("/reference/?view=launch&cluster=atlas"))

    assert "Nothing in atlas fits: what is chosen by cluster, labels or model are real hosts alone." in page


def found(viewer, query: str, **headers: str) -> list[str]:
    page = viewer.get(f"/search/?{query}", headers=headers).content.decode()
    return re.findall(r'class="hit" href="([^"]+)"', page)


def test_the_search_looks_in_the_cluster_and_offers_all(viewer, two):
    runs = {cluster: make_run(f"run-of-{cluster}", host=host) for cluster, host in two.items()}
    jobs = {cluster: existing_job(host) for cluster, host in two.items()}

    hits = found(viewer, "q=gpu-&cluster=atlas") + found(viewer, "q=run-of&cluster=atlas")

    devices = {f"/devices/{device.uuid}/" for device in two["atlas"].devices.all()}
    others = {"/hosts/gpu-a01/", f"/reference/{jobs['atlas'].pk}/", f"/runs/{runs['atlas'].pk}/"}
    assert set(hits) == devices | others
    nothing = viewer.get("/search/?q=gpu-b01&cluster=atlas", headers=HTMX)
    assert "Nothing in atlas has “gpu-b01” in its name." in text(nothing)
    assert 'href="/search/?q=gpu-b01"' in nothing.content.decode()
    assert "/hosts/gpu-b01/" in found(viewer, "q=gpu-b01", **HTMX)
