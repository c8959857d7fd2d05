"""The page of a run: who may see it, its facts and figures, what is slow, its charts' values, its files, two runs compared."""

import csv
import io
import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from fleet.models import Role
from tests.factories import make_host
from tests.people import signed_in
from tests.training.pages import text
from tests.training.runs import START, goes_on, make_run, queries_of, rank_steps, with_power
from tests.training.stored_steps import put
from training.models import Run
from training.steps.columns import StepKind
from training.steps.store import read
from training.views import run as run_view
from training.views import run_window

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


def words(response):
    return text(response).replace("\N{NARROW NO-BREAK SPACE}", " ")


# Who may see it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "why/", "arrays/", "steps/", "ranks/", "compare/"])
def test_strangers_are_sent_to_the_login_page(path):
    response = Client().get(f"/runs/{make_run().pk}/{path}")

    assert (response.status_code, response.url.partition("?")[0]) == (302, "/login/")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
def test_every_role_may_read(role):
    assert signed_in(role).get(f"/runs/{make_run().pk}/").status_code == 200


@pytest.mark.parametrize("path", ["", "why/", "arrays/", "steps/", "ranks/", "compare/?with=1"])
def test_a_run_that_is_not_there_is_not_found(viewer, path):
    assert viewer.get(f"/runs/987/{path}").status_code == 404


@pytest.mark.parametrize(
    "query", ["range=1y", "from=5&to=4", "from=x&to=4", "with=x", "with=9999999999999999999"]
)  # fmt: skip
def test_a_window_or_run_that_does_not_exist_is_a_bad_request(viewer, query):
    assert viewer.get(f"/runs/{make_run().pk}/?{query}").status_code == 400


def test_nothing_can_be_posted(viewer):
    assert viewer.post(f"/runs/{make_run().pk}/").status_code == 405


# What it says --------------------------------------------------------------------------------------------------


def test_the_facts_of_a_run_stand_under_its_title(viewer):
    page = words(viewer.get(f"/runs/{make_run(n_lost=4).pk}/"))

    assert "Owner ada nlp" in page
    assert "2 × H100 SXM5 80GB gpu-a01" in page
    assert "16 × 1,024 tokens" in page
    assert "Datagrams lost 8 4 of them by the client" in page


def test_a_run_that_lost_nothing_says_nothing_of_it(viewer):
    assert "Datagrams lost" not in words(viewer.get(f"/runs/{make_run().pk}/"))


def test_a_run_that_goes_on_without_a_step_says_for_how_long(viewer):
    run = goes_on(make_run())
    Run.objects.update(last_step_at=timezone.now() - timedelta(seconds=90))
    assert "no step for 1 min 30 s" in words(viewer.get(f"/runs/{run.pk}/"))

    Run.objects.update(last_step_at=timezone.now())
    assert "no step for" not in words(viewer.get(f"/runs/{run.pk}/"))


def test_the_tiles_are_those_of_the_window(viewer):
    tiles = {tile.key: tile for tile in viewer.get(f"/runs/{with_power(make_run()).pk}/").context["tiles"]}

    assert tiles["step"].value == pytest.approx(1.0)
    assert tiles["throughput"].value == pytest.approx(2 * 8192, rel=0.01)
    assert tiles["joule"].value == pytest.approx(8192 / 600, rel=0.02)
    assert tiles["energy"].value == pytest.approx(1200, rel=0.02)
    assert tiles["goodput"].value == pytest.approx(1.0, rel=0.01)


def test_mfu_shows_what_it_was_made_of(viewer):
    response = viewer.get(f"/runs/{make_run().pk}/")
    [mfu] = [tile for tile in response.context["tiles"] if tile.key == "mfu"]

    assert mfu.value == pytest.approx(16 * 5e13 / (2 * 989.4e12), rel=0.02)
    assert re.search(r"Numerator (799|800)(\.\d)? TFLOP/s", words(response))
    assert re.search(r"Denominator 2 × H100 SXM5 80GB at 989 TFLOP/s, dense bf16", words(response))


def test_a_figure_that_is_not_known_says_why(viewer):
    run = make_run(description={})

    page = viewer.get(f"/runs/{run.pk}/").content.decode()

    assert (
        '<abbr class="faint" title="the loop tells neither flops_per_sample nor its model&#x27;s shape">—</abbr>'
        in page
    )


def test_phases_and_wall_time_are_told_apart(viewer):
    page = words(viewer.get(f"/runs/{make_run().pk}/"))

    assert re.search(r"forward 300 ms 30 %", page)
    assert re.search(r"rest of the step 150 ms 15 %", page)
    assert re.search(r"productive steps 40 s 100 %", page)


def test_the_refresh_is_the_changing_parts_alone(viewer):
    answer = viewer.get(f"/runs/{make_run().pk}/", headers={"HX-Request": "true"}).content.decode()

    assert "<html" not in answer
    assert answer.count("hx-swap-oob") == 4


def test_only_a_run_that_goes_on_is_asked_again(viewer):
    run = make_run()
    over = viewer.get(f"/runs/{run.pk}/?range=run").content.decode()
    going = viewer.get(f"/runs/{goes_on(run).pk}/?range=run").content.decode()

    def triggers(page):
        return re.search(r'id="run-tiles"[^>]*hx-trigger="([^"]*)"', page)[1]

    assert "sw:tick" not in triggers(over)
    assert "sw:tick" in triggers(going)


def test_a_page_of_many_steps_comes_first_and_asks_for_its_figures_later(viewer, monkeypatch):
    monkeypatch.setattr(run_view, "_MOST_STEPS_AT_ONCE", 20)
    response = viewer.get(f"/runs/{make_run().pk}/")

    assert "tiles" not in response.context
    assert 'hx-trigger="load, sw:window from:body"' in response.content.decode()
    assert "Owner" in words(response)


def test_a_window_of_too_many_steps_is_cut_and_says_so(viewer, monkeypatch):
    monkeypatch.setattr(run_window, "MOST_STEPS", 40)
    run = make_run()
    page = viewer.get(f"/runs/{run.pk}/")

    assert page.context["window"].seconds == pytest.approx(20, abs=0.1)
    assert "the last 20 s: more steps than are read at once" in words(page)
    assert viewer.get(f"/runs/{run.pk}/steps/").status_code == 400


def test_a_run_of_a_recording_or_of_the_simulator_is_marked(viewer):
    run = make_run()
    run.host.origin = "simulated"
    run.host.save()

    assert '<span class="tag">simulated</span>' in viewer.get(f"/runs/{run.pk}/").content.decode()


# What was slow -------------------------------------------------------------------------------------------------


def test_the_straggler_is_named_with_its_rank_host_and_gpu_and_those_who_wait(viewer):
    run = make_run(n_ranks=4, slow={2: 1.12})
    page = words(viewer.get(f"/runs/{run.pk}/why/"))

    assert "rank 2, gpu-a01 GPU 2" in page
    assert "3 GPUs ×" in page
    assert "+12" in page


def test_the_title_says_that_there_is_a_straggler(viewer):
    response = viewer.get(f"/runs/{make_run(n_ranks=4, slow={2: 1.12}).pk}/")

    assert [pill.words for pill in response.context["pills"]] == ["ended", "straggler"]
    assert "device=" in response.context["arrays"]


def test_ranks_alike_have_no_straggler(viewer):
    assert "No rank holds up the others." in words(viewer.get(f"/runs/{make_run(n_ranks=4).pk}/why/"))


def test_a_run_of_one_rank_says_why_there_is_no_verdict(viewer):
    assert "a run of one rank has nobody that waits for it" in words(viewer.get(f"/runs/{make_run(n_ranks=1).pk}/why/"))


def test_a_slow_step_is_named_with_its_cause_or_that_none_was_seen(viewer):
    seconds = [1.0] * 40
    seconds[30] = 3.0
    run = make_run(n_ranks=1)
    steps = read.steps(run)
    from tests.training.stored_steps import put

    late = steps.select(slice(0, 1))
    put(run, type(late)(**{n: getattr(late, n) for n in late.__slots__} | {
        "seconds": late.seconds * 3, "number": late.number + 40, "ended_ms": late.ended_ms + 43_000}))  # fmt: skip
    Run.objects.filter(pk=run.pk).update(last_step_at="2023-11-14T22:14:05Z")

    page = words(viewer.get(f"/runs/{run.pk}/why/"))

    assert re.search(r"40 .* 3 s × 3.00 rank 0, gpu-a01", page)
    assert "no cause seen" in page


# What the charts are filled with -------------------------------------------------------------------------------


def test_the_arrays_fit_the_figures(viewer):
    page = viewer.get(f"/runs/{with_power(make_run()).pk}/")
    answer = viewer.get(page.context["arrays"]).json()

    assert [chart.id for chart in page.context["charts"]] == list(answer["charts"])
    for chart in page.context["charts"]:
        assert len(chart.figure["data"]) == len(answer["charts"][chart.id]["traces"])


def test_each_row_stands_on_the_same_time(viewer):
    page = viewer.get(f"/runs/{with_power(make_run()).pk}/")
    answer = viewer.get(page.context["arrays"]).json()

    assert {"fig-step", "fig-throughput", "fig-mfu", "fig-energy", "fig-token-energy", "fig-loss",
            "fig-power_draw_watts", "fig-temperature_celsius"} <= set(answer["charts"])  # fmt: skip
    assert answer["range"] == [START, START + 40_001]
    energy = [y for y in answer["charts"]["fig-energy"]["traces"][0]["y"] if y is not None]
    assert energy[10] == pytest.approx(1200, rel=0.01)
    mfu = [y for y in answer["charts"]["fig-mfu"]["traces"][0]["y"] if y is not None]
    assert mfu[10] == pytest.approx(16 * 5e13 / (2 * 989.4e12), rel=0.03)


def test_a_zoomed_window_is_what_is_read(viewer):
    run = make_run()
    answer = viewer.get(f"/runs/{run.pk}/arrays/?row=step&range=run&from={START}&to={START + 10_500}").json()

    assert answer["range"] == [START, START + 10_500]
    assert len(answer["charts"]["fig-step"]["x"]) == 20


@pytest.mark.parametrize(
    "query", ["row=colour", "metric=colour", "mfu_per_samples=x", "rank=x", "onset=x", "phase=a&" * 41]
)  # fmt: skip
def test_rows_and_metrics_that_do_not_exist_are_a_bad_request(viewer, query):
    assert viewer.get(f"/runs/{make_run().pk}/arrays/?{query}").status_code == 400


def test_a_window_without_steps_has_empty_charts(viewer):
    answer = viewer.get(f"/runs/{make_run().pk}/arrays/?row=step&phase=data&from=1000&to=2000").json()

    assert answer["charts"]["fig-step"]["x"] == []


# Files ---------------------------------------------------------------------------------------------------------


def test_the_steps_come_as_csv_that_can_be_imported_again(viewer, tmp_path):
    run = make_run()
    answer = viewer.get(f"/runs/{run.pk}/steps/")
    path = tmp_path / "steps.csv"
    path.write_bytes(b"".join(answer.streaming_content))
    call_command(
        "import_steps", str(path), "--run", "again", "--host", "copy", stdout=io.StringIO(), stderr=io.StringIO()
    )

    again = read.steps(Run.objects.get(name="again"))
    assert again.seconds.tolist() == read.steps(run).seconds.tolist()
    assert again.phases["forward"].tolist() == pytest.approx(read.steps(run).phases["forward"].tolist())
    assert answer.headers["Content-Disposition"] == f'attachment; filename="llm-7b-{run.pk}-steps.csv"'


def test_what_was_done_again_and_what_is_no_training_come_back_from_the_csv(viewer, tmp_path):
    run = make_run(n_ranks=1, n_steps=3)
    kinds, attempts = [StepKind.TRAIN, StepKind.CHECKPOINT, StepKind.OTHER], [1, 1, 1]
    again = rank_steps(0, 3, start_ms=START + 60_000, kind=kinds, attempt=attempts, is_warmup=[True, False, False])
    put(run, again)
    path = tmp_path / "steps.csv"
    path.write_bytes(b"".join(viewer.get(f"/runs/{run.pk}/steps/?from={START}&to={START + 90_000}").streaming_content))
    said = io.StringIO()
    call_command("import_steps", str(path), "--run", "again", "--host", "copy", stdout=said, stderr=said)

    copy = Run.objects.get(name="again")
    came, was = read.steps(copy), read.steps(run, START, START + 90_000)
    assert (len(came), copy.restarts, copy.ranks.get().n_steps) == (6, 1, 3)
    for name in ("number", "kind", "attempt", "is_warmup", "ended_ms"):
        assert getattr(came, name).tolist() == getattr(was, name).tolist(), name
    assert came.compute_seconds.tolist() == pytest.approx(was.compute_seconds.tolist())


def test_the_ranks_come_as_csv(viewer):
    body = viewer.get(f"/runs/{make_run(n_ranks=4, slow={2: 1.12}).pk}/ranks/").content.decode()
    rows = list(csv.DictReader(io.StringIO(body)))

    assert list(rows[0]) == ["rank", "place", "step_seconds", "compute_seconds", "deviation", "is_straggler"]
    assert [row["is_straggler"] for row in rows] == ["0", "0", "1", "0"]
    assert (rows[2]["rank"], rows[2]["place"], float(rows[2]["step_seconds"])) == (
        "2",
        "gpu-a01 GPU 2",
        pytest.approx(1),
    )


# Two runs ------------------------------------------------------------------------------------------------------


def test_two_runs_stand_side_by_side(viewer):
    run, other = make_run(), make_run("llm-13b", n_ranks=1)
    page = viewer.get(f"/runs/{run.pk}/?with={other.pk}")
    rows = {row.label: row for row in page.context["comparison"]}

    assert rows["Throughput"].difference.startswith("+100.0")
    assert rows["Throughput"].tone == "up"
    assert rows["Share of forward"].difference == "±0.0\N{NARROW NO-BREAK SPACE}pp"
    assert "Compared with" in words(page)


def test_the_choice_of_the_other_run_stands_in_the_address(viewer):
    run, other = make_run(), make_run("llm-13b")

    assert f'href="?with={other.pk}"' in viewer.get(f"/runs/{run.pk}/").content.decode()


def test_the_charts_of_a_comparison_go_by_step_number(viewer):
    run, other = make_run(), make_run("llm-13b", n_ranks=1)
    page = viewer.get(f"/runs/{run.pk}/?with={other.pk}")
    answer = viewer.get(page.context["compare_arrays"]).json()

    assert answer["range"] == [0.0, 39.0]
    for chart in page.context["compare_charts"]:
        assert len(chart["figure"]["data"]) == len(answer["charts"][chart["id"]]["traces"])


def test_a_comparison_of_one_step_each_has_room_on_both_sides(viewer):
    run, other = make_run(n_steps=1), make_run("llm-13b", n_steps=1)
    page = viewer.get(f"/runs/{run.pk}/?with={other.pk}")

    assert viewer.get(page.context["compare_arrays"]).json()["range"] == [-0.5, 0.5]


def test_a_comparison_needs_the_other_run(viewer):
    assert viewer.get(f"/runs/{make_run().pk}/compare/").status_code == 400
    assert viewer.get(f"/runs/{make_run().pk}/?with=987").status_code == 404


# What it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "why/", "arrays/?row=step&row=tokens&metric=power_draw_watts", "ranks/"])
def test_the_number_of_queries_does_not_grow_with_the_ranks(viewer, path):
    few, many = with_power(make_run()), with_power(make_run("wide", n_ranks=6, host=make_host("gpu-a02")))
    viewer.get(f"/runs/{few.pk}/{path}")  # the first one also asks what is kept by the process
    counts = [queries_of(viewer, f"/runs/{run.pk}/{path}{'&' if '?' in path else '?'}range=run") for run in (few, many)]

    assert counts[1] <= counts[0]
