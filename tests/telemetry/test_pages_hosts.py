"""The table of hosts: sorted, filtered and paged by its address, and as a file."""

import csv
import io
import re

import pytest
from django.test import Client

from fleet.models import DeviceKind, Origin, Role
from telemetry.views import hosts as view
from tests.factories import CPU_READINGS, GPU_READINGS, make_device, make_gpu_host, make_host, make_latest
from tests.people import signed_in
from tests.training.judging.judged import board, judged, with_history
from tests.training.runs import make_run
from training.models import Run

pytestmark = pytest.mark.django_db


def host_with(name: str, watts: float | None, **fields: object):
    host = make_host(name, **fields)
    readings = {**GPU_READINGS, "power_draw_watts": watts} if watts is not None else CPU_READINGS
    make_latest(host, {make_device(host, 0): readings})
    return host


@pytest.fixture
def viewer() -> Client:
    return signed_in()


@pytest.fixture
def three():
    host_with("b", 300.0, cluster="atlas")
    host_with("a", None, cluster="atlas", labels={"team": "vision"})
    host_with("c", 700.0)


def names(viewer: Client, query: str = "") -> list[str]:
    return re.findall(r'<a class="name" href="/hosts/(\w+)/">', viewer.get(f"/hosts/{query}").content.decode())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("?sort=-host", ["c", "b", "a"]),
        ("?sort=power", ["b", "c", "a"]),
        ("?sort=-power", ["c", "b", "a"]),
        ("?q=atlas", ["a", "b"]),
        ("?q=team%3Dvision", ["a"]),
        ("?state=silent", []),
    ],
)
def test_the_address_orders_and_filters_the_table(viewer, three, query, expected):
    assert names(viewer, query) == expected


def test_the_column_that_orders_says_so_and_its_link_turns_it_round(viewer, three):
    page = viewer.get("/hosts/?sort=-power&q=atlas").content.decode()

    assert '<th class="num" aria-sort="descending"><a href="?sort=power&amp;q=atlas">Power</a></th>' in page


@pytest.mark.parametrize("query", ["?sort=colour", "?state=purple"])
def test_what_there_is_not_is_refused_in_words(viewer, three, query):
    answer = viewer.get(f"/hosts/{query}")

    assert answer.status_code == 400
    assert "expected one of" in answer.content.decode()


def test_a_long_table_comes_in_pages_that_keep_order_and_filter(viewer, three, monkeypatch):
    monkeypatch.setattr(view, "PAGE_SIZE", 2)

    assert names(viewer, "?sort=-host&page=2") == ["a"]
    assert 'href="?sort=-host&amp;page=1"' in viewer.get("/hosts/?sort=-host&page=2").content.decode()


def test_the_file_holds_every_page_in_base_units_and_nothing_for_what_is_unknown(viewer, three, monkeypatch):
    monkeypatch.setattr(view, "PAGE_SIZE", 1)

    rows = list(csv.DictReader(io.StringIO(viewer.get("/hosts/?format=csv&sort=-power").content.decode())))

    assert [(row["host"], row["power_draw_watts"]) for row in rows] == [("c", "700.0"), ("b", "300.0"), ("a", "")]


def test_a_run_and_the_deviation_of_its_host_stand_in_its_row(viewer):
    verdict = judged(with_history(board("a")), 1.2)
    run = make_run("llm-7b", 1, host=verdict.job.host)
    Run.objects.filter(pk=run.pk).update(ends_at="2100-01-01T00:00Z", group="nlp")

    page = re.sub(r"<[^>]+>", " ", viewer.get("/hosts/?q=a").content.decode())

    assert re.search(r"llm-7b\s+nlp", page)
    assert "−16.7" in page


def test_hosts_are_ordered_by_their_job_and_by_their_deviation_those_without_last(viewer):
    slow = judged(with_history(board("a")), 1.2).job.host
    fast = judged(with_history(board("b")), 0.9).job.host
    host_with("c", 300.0)
    for host, name in ((slow, "zeta"), (fast, "alpha")):
        Run.objects.filter(pk=make_run(name, 1, host=host).pk).update(ends_at="2100-01-01T00:00Z")

    assert names(viewer, "?sort=baseline") == ["a", "b", "c"]
    assert names(viewer, "?sort=-baseline") == ["b", "a", "c"]
    assert names(viewer, "?sort=job") == ["b", "a", "c"]
    rows = list(csv.DictReader(io.StringIO(viewer.get("/hosts/?format=csv&sort=-job").content.decode())))
    assert [(row["host"], row["job"]) for row in rows] == [("a", "zeta"), ("b", "alpha"), ("c", "")]
    assert float(rows[1]["baseline_deviation_ratio"]) > 0 > float(rows[0]["baseline_deviation_ratio"])


@pytest.mark.parametrize("kind", [DeviceKind.NVIDIA, DeviceKind.CPU])
def test_hosts_that_do_nothing_are_counted_as_idle(viewer, kind):
    host = make_host("lazy")
    make_latest(host, {make_device(host, 0, kind=kind): {**CPU_READINGS, "gpu_utilization_ratio": 0.01}})
    make_gpu_host("busy", 1)

    assert names(viewer, "?state=idle") == ["lazy"]
    assert "Idle 1" in viewer.get("/hosts/").content.decode()


def test_no_host_fits_is_said_and_leads_back(viewer, three):
    assert "No host fits this filter" in signed_in(Role.ADMIN).get("/hosts/?q=nothing-like-it").content.decode()


@pytest.mark.parametrize("origin", [Origin.IMPORTED, Origin.REAL])
def test_only_what_reports_is_called_healthy(viewer, origin):
    host = make_gpu_host("gpu-a01", 1, origin=origin)

    for path in ("/hosts/", "/hosts/gpu-a01/", f"/devices/{host.devices.get().uuid}/"):
        shown = re.sub(r"<[^>]+>", " ", viewer.get(path).content.decode().partition("<main")[2])
        assert ("healthy" in shown) is (origin == Origin.REAL)
        assert "healthy" in shown or "recorded" in shown


@pytest.fixture
def two_clusters():
    make_gpu_host("gpu-a01", cluster="atlas")
    make_gpu_host("gpu-b01", cluster="borealis")


@pytest.mark.parametrize("path", ["/fleet/energy/", "/runs/headlines/"])
def test_a_tile_that_comes_later_leads_to_the_cluster_too(viewer, two_clusters, path):
    links = re.findall(r'href="(/(?:power|efficiency)/[^"]*)"', viewer.get(f"{path}?cluster=atlas").content.decode())

    assert links
    assert all(link.endswith("?cluster=atlas") for link in links)


@pytest.mark.parametrize("path", ["/hosts/", "/fleet/devices/"])
def test_a_cluster_that_was_chosen_stays_chosen_from_page_to_page(viewer, two_clusters, path):
    page = viewer.get(f"{path}?cluster=atlas").content.decode()

    assert ("gpu-a01" in page, "gpu-b01" in page) == (True, False)
    assert 'href="?cluster=borealis"' in page  # the menu offers the other one
    for section in ("/", "/hosts/", "/power/", "/events/"):
        assert f'href="{section}?cluster=atlas" data-go' in page
    assert viewer.get(f"{path}?cluster=none").status_code == 404


def test_the_tiles_of_a_cluster_lead_to_its_hosts(viewer, two_clusters):
    page = viewer.get("/?cluster=atlas").content.decode()

    assert 'href="/hosts/?cluster=atlas"' in page
    assert 'href="/hosts/?sort=-utilisation&amp;cluster=atlas"' in page
    assert 'data-fresh="/reference/recent/?cluster=atlas"' in page
