"""The list of runs, and the panel of runs on the pages of hosts and devices."""

import csv
import io
from unittest import mock

import pytest
from django.core.cache import cache
from django.test import Client

from tests.factories import make_host
from tests.training.pages import text
from tests.training.runs import goes_on, make_run, queries_of, with_power
from training.runs import summaries
from training.views import runs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


def names(response):
    return [row.run.name for row in response.context["rows"]]


@pytest.mark.parametrize("path", ["/runs/", "/runs/running/"])
def test_strangers_are_sent_to_the_login_page(path):
    response = Client().get(path)

    assert (response.status_code, response.url.partition("?")[0]) == (302, "/login/")


def test_before_the_first_run_the_page_says_how_to_get_one(viewer):
    page = text(viewer.get("/runs/"))

    assert "No training run yet" in page
    assert 'stepwatt.run("llm-7b")' in page.replace("&quot;", '"')


def test_a_run_stands_with_its_figures_and_its_trend(viewer):
    with_power(make_run())
    response = viewer.get("/runs/")
    figures = {cell.key: cell.value for cell in response.context["rows"][0].figures}

    assert figures["step"] == pytest.approx(1.0)
    assert figures["throughput"] == pytest.approx(2 * 8192, rel=0.01)
    assert figures["mfu"] == pytest.approx(16 * 5e13 / (2 * 989.4e12), rel=0.02)
    assert figures["joule"] == pytest.approx(8192 / 600, rel=0.02)
    assert figures["energy"] == pytest.approx(2 * 600 * 40, rel=0.02)
    assert "ada · nlp" in text(response)
    assert len(response.context["rows"][0].trend) == 48


def test_a_run_with_a_straggler_is_flagged(viewer):
    make_run(n_ranks=4, slow={1: 1.12})

    assert "straggler" in text(viewer.get("/runs/"))


def test_what_is_not_known_is_a_dash_with_its_reason(viewer):
    make_run(description={})

    page = viewer.get("/runs/").content.decode()
    assert (
        '<abbr class="faint" title="the loop tells neither flops_per_sample nor its model&#x27;s shape">—</abbr>'
        in page
    )


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["b", "a"]),
        ("state=running", ["b"]),
        ("state=ended", ["a"]),
        ("q=gpu-b", ["b"]),
        ("q=NLP", ["a"]),
        ("q=nothing", []),
        ("q=b&state=ended", []),
    ],
)
def test_the_list_is_filtered_by_the_address(viewer, query, shown):
    make_run("a")
    goes_on(make_run("b", host=make_host("gpu-b01"), owner="bob", group="vision"))

    assert sorted(names(viewer.get(f"/runs/?{query}"))) == sorted(shown)


@pytest.mark.parametrize("query", ["state=colour", "range=1y", "q=a%00", "sort=colour"])
def test_a_filter_that_does_not_exist_is_a_bad_request(viewer, query):
    assert viewer.get(f"/runs/?{query}").status_code == 400


def test_a_filter_that_fits_no_run_says_so(viewer):
    make_run()

    assert "No run fits this filter." in text(viewer.get("/runs/?q=nothing"))


def test_the_refresh_is_the_table_alone(viewer):
    make_run()
    answer = viewer.get("/runs/", headers={"HX-Request": "true"}).content.decode()

    assert "<html" not in answer
    assert 'id="runs"' in answer


def test_figures_for_which_the_time_did_not_suffice_come_with_the_next_refresh(viewer, monkeypatch):
    make_run("a")
    make_run("b")
    monkeypatch.setattr(runs, "_PAGE_SECONDS", 0.0)
    first = viewer.get("/runs/").content.decode()

    assert "being worked out" in first
    assert "load delay:300ms" in first.partition('id="runs"')[2][:200]
    assert "being worked out" not in viewer.get("/runs/", headers={"HX-Request": "true"}).content.decode()


SORTED = {
    "run": ["Ada", "bert", "c"], "-run": ["c", "bert", "Ada"], "-steps": ["bert", "Ada", "c"], "steps": ["c", "Ada", "bert"],
    "-duration": ["bert", "Ada", "c"], "-throughput": ["c", "Ada", "bert"], "throughput": ["bert", "Ada", "c"],
}  # fmt: skip


@pytest.mark.parametrize("sort", SORTED)
def test_the_list_is_sorted_over_all_its_pages(viewer, monkeypatch, sort):
    monkeypatch.setattr(runs, "ROWS_A_PAGE", 1)
    for name, n_ranks, n_steps in (("bert", 1, 40), ("c", 4, 20), ("Ada", 2, 30)):
        make_run(name, n_ranks, n_steps=n_steps)

    pages = [viewer.get(f"/runs/?sort={sort}&page={page}") for page in (1, 2, 3)]
    assert [name for page in pages for name in names(page)] == SORTED[sort]
    file = csv.DictReader(io.StringIO(viewer.get(f"/runs/?sort={sort}&format=csv").content.decode()))
    assert [row["run"] for row in file] == SORTED[sort]


def test_runs_whose_figure_is_still_to_come_stand_last_and_are_told_of(viewer, monkeypatch):
    monkeypatch.setattr(runs, "ROWS_A_PAGE", 2)
    monkeypatch.setattr(runs, "_PAGE_SECONDS", 0.0)
    for name in "abc":
        make_run(name, 1)
    first = viewer.get("/runs/?sort=-mfu")
    assert "Of 2 runs they are being worked out: these stand last." in text(first)
    assert [bool(row.summary) for row in first.context["rows"]] == [True, False]
    assert "load delay:300ms" in first.content.decode()

    whole = viewer.get("/runs/?sort=-mfu", headers={"HX-Request": "true"})
    assert "being worked out" not in text(whole)


def test_the_window_is_cut_where_a_row_would_read_too_many_steps(viewer, monkeypatch):
    make_run()
    monkeypatch.setattr(summaries, "MOST_STEPS", 20)
    [row] = viewer.get("/runs/").context["rows"]

    assert row.summary.window_ms == pytest.approx(10_000, rel=0.01)


def test_the_list_comes_as_csv_in_base_units(viewer):
    with_power(make_run())
    answer = viewer.get("/runs/?format=csv")
    [row] = csv.DictReader(io.StringIO(answer.content.decode()))

    assert (row["run"], row["state"], row["throughput_unit"]) == ("llm-7b", "ended", "tokens_per_second")
    assert float(row["throughput"]) == pytest.approx(2 * 8192, rel=0.01)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="runs.csv"'


def test_a_list_whose_figures_are_kept_costs_the_same_number_of_queries_whatever_its_length(viewer, monkeypatch):
    monkeypatch.setattr(summaries, "_BUDGET_SECONDS", 600)
    make_run("a")
    viewer.get("/runs/")
    one = queries_of(viewer, "/runs/")
    for name in "bcd":
        make_run(name)
    viewer.get("/runs/")

    assert queries_of(viewer, "/runs/") == one


# The panel of a host and of a device ---------------------------------------------------------------------------


def test_a_host_and_a_device_show_their_runs(viewer):
    make_run("a")
    run = make_run("b", host=make_host("gpu-b01"))
    device = run.ranks.first().device

    assert names(viewer.get("/runs/running/?host=gpu-a01")) == ["a"]
    assert names(viewer.get(f"/runs/running/?device={device.uuid}")) == ["b"]
    assert "/runs/running/?host=gpu-b01" in viewer.get("/hosts/gpu-b01/").content.decode()
    assert f"/runs/running/?device={device.uuid}" in viewer.get(f"/devices/{device.uuid}/").content.decode()


@pytest.mark.parametrize("query", ["host=nowhere", "device=GPU-0"])
def test_the_panel_of_what_is_not_there_is_not_found(viewer, query):
    assert viewer.get(f"/runs/running/?{query}").status_code == 404


def test_a_host_without_a_run_says_so(viewer):
    make_host("gpu-c01")

    assert "No training loop has told its steps here yet." in text(viewer.get("/runs/running/?host=gpu-c01"))


def test_the_navigation_leads_to_the_runs(viewer):
    make_run()

    assert '<a class="item" href="/runs/" data-go="r" aria-current="page">' in viewer.get("/runs/").content.decode()


def test_the_page_works_out_one_run_and_its_table_the_others_which_keep_their_figures_meanwhile(viewer, monkeypatch):
    monkeypatch.setattr(runs, "_PAGE_SECONDS", 0.0)
    for name in ("a", "b", "c"):
        make_run(name, 1)
    known = [bool(row.summary) for row in viewer.get("/runs/").context["rows"]]
    assert known.count(True) == 1

    assert all(row.summary for row in viewer.get("/runs/", headers={"HX-Request": "true"}).context["rows"])
    monkeypatch.setattr(summaries, "_key", lambda run, *_: f"later:{run.pk}")
    with mock.patch.object(summaries, "summary", side_effect=AssertionError):
        assert all(row.summary for row in viewer.get("/runs/").context["rows"])
