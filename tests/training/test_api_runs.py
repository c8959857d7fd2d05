"""Runs for scripts: the list, one run's figures, its steps and ranks. Roles and CSRF: tests/fleet/test_api.py."""

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Role
from tests.factories import make_device, make_host
from tests.people import script
from tests.training.runs import START, goes_on, make_run, queries_of, rank_steps, with_power
from tests.training.stored_steps import enter, put
from training.api import runs
from training.models import Run
from training.runs.members import members
from training.views import run_facts

pytestmark = pytest.mark.django_db

RUNS = "/api/v1/runs"


@pytest.fixture
def api():
    client = script(Role.VIEWER)

    def ask(path="", **parameters):
        response = client.get(f"{RUNS}{path}", parameters)
        return response.status_code, response.json()

    return ask


def error(answer):
    status, body = answer
    return status, body["error"]["code"], body["error"].get("field")


@pytest.mark.parametrize("path", ["", "/1", "/1/steps", "/1/ranks"])
def test_strangers_hear_that_they_must_sign_in(path):
    assert Client().get(f"{RUNS}{path}").status_code == 401


@pytest.mark.parametrize("path", ["", "/{}", "/{}/steps", "/{}/ranks"])
def test_nothing_is_written(path):
    path = path.format(make_run().pk)

    assert script(Role.ADMIN).post(f"{RUNS}{path}").status_code == 405


@pytest.mark.parametrize("path", ["/987", "/987/steps", "/987/ranks"])
def test_a_run_that_is_not_there_is_not_found(api, path):
    assert error(api(path)) == (404, "not_found", "run_id")


# The list ------------------------------------------------------------------------------------------------------


def test_the_list_tells_who_takes_part(api):
    make_run(n_ranks=3)
    status, answer = api()
    [run] = answer["items"]

    assert (status, answer["count"]) == (200, 1)
    assert (run["name"], run["owner"], run["group"], run["state"]) == ("llm-7b", "ada", "nlp", "ended")
    assert (run["ranks"], run["steps"], run["world_size"]) == (3, 40, 3)
    assert run["hosts"] == {"gpu-a01": "real"}
    assert run["devices"] == {"NVIDIA H100 80GB HBM3": 3}
    assert run["links"]["page"] == f"/runs/{run['id']}/"


def started_again(run, host):
    """Have both ranks go on, on another host, from step 30 to 49."""
    steps = [rank_steps(rank, 20, start_ms=START + 60_000, number=np.arange(30, 50)) for rank in (0, 1)]
    for rank, own in enumerate(steps):
        device = make_device(host, rank)
        enter(host, own, run=run.name, launch=run.launch, rank=rank, process=f"later-{rank}", devices=(device.uuid,))


def test_all_starts_of_a_run_count_each_rank_once(api):
    run = make_run(n_ranks=2)
    started_again(run, make_host("gpu-b01"))
    [told] = api()[1]["items"]
    run.refresh_from_db()
    facts = _facts_of(run)

    assert (told["ranks"], told["steps"], told["restarts"]) == (2, 60, 1)
    assert told["devices"] == {"NVIDIA H100 80GB HBM3": 2}
    assert set(told["hosts"]) == {"gpu-a01", "gpu-b01"}
    assert (facts["Ranks"], facts["Steps"]) == ("2", "60")
    assert members(run).foreseen(START, START + 100_000) == 120


def test_a_device_counts_once_whoever_is_on_it_and_each_of_a_process_that_has_several(api):
    host = make_host("gpu-c01")
    uuids = [make_device(host, index).uuid for index in range(4)]
    enter(host, rank_steps(0), run="one process", process="a", devices=tuple(uuids))
    for rank in (0, 1):
        enter(host, rank_steps(rank), run="one device", rank=rank, process=f"b{rank}", devices=(uuids[0],))
    facts = {run.name: _facts_of(run)["Hardware"] for run in Run.objects.all()}

    assert {run["name"]: run["devices"] for run in api()[1]["items"]} == {
        "one process": {"NVIDIA H100 80GB HBM3": 4}, "one device": {"NVIDIA H100 80GB HBM3": 1},
    }  # fmt: skip
    assert facts == {"one process": "4 × H100 SXM5 80GB", "one device": "1 × H100 SXM5 80GB"}


def _facts_of(run):
    return {fact.label: fact.words for fact in run_facts.facts(run, members(run), timezone.now())}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"name": "a"}, {"a"}),
        ({"state": "running"}, {"b"}),
        ({"state": "ended"}, {"a"}),
        ({"host": "gpu-b01"}, {"b"}),
        ({"owner": "bob"}, {"b"}),
        ({"group": "vision"}, {"b"}),
        ({"limit": 1}, {"b"}),
        ({"offset": 1}, {"a"}),
    ],
)
def test_the_list_is_filtered(api, asked, names):
    make_run("a")
    goes_on(make_run("b", host=make_host("gpu-b01"), owner="bob", group="vision"))

    assert {run["name"] for run in api(**asked)[1]["items"]} == names


def test_runs_are_found_by_their_device(api):
    make_run("a")
    run = make_run("b", host=make_host("gpu-b01"))

    assert [each["name"] for each in api(device=run.ranks.first().device.uuid)[1]["items"]] == ["b"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"host": "x"}, "host"), ({"device": "x"}, "device"), ({"state": "x"}, "state"), ({"colour": "x"}, "colour"),
     ({"limit": "0"}, "limit"), ({"name": "a\0"}, "name")],
)  # fmt: skip
def test_a_filter_that_cannot_be_understood_is_refused(api, asked, field):
    assert error(api(**asked))[::2] == (400, field)


def test_the_list_costs_the_same_number_of_queries_whatever_its_length():
    client = script(Role.VIEWER)
    make_run("a")
    queries_of(client, RUNS)
    one = queries_of(client, RUNS)
    for name in "bcde":
        make_run(name)

    assert queries_of(client, RUNS) == one


# One run -------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_figures_with_units(api):
    run = with_power(make_run())
    _, answer = api(f"/{run.pk}")
    figures = answer["figures"]

    assert figures["step_seconds_median"]["value"] == pytest.approx(1.0)
    assert figures["tokens_per_second"]["value"] == pytest.approx(16_384, rel=0.01)
    assert figures["joules_per_step"]["value"] == pytest.approx(1200, rel=0.02)
    assert (figures["mfu"]["unit"], figures["mfu"]["reason"]) == ("ratio", "")
    assert set(figures["mfu"]["parts"]) == {"achieved FLOP/s", "peak FLOP/s"}
    assert answer["wall_seconds"]["productive"] == pytest.approx(40)


def test_the_denominator_of_mfu_is_told_with_its_sources(api):
    [peak] = api(f"/{make_run().pk}")[1]["peaks"]

    assert (peak["devices"], peak["dtype"]) == (2, "bf16")
    assert peak["flops_per_second"] == pytest.approx(989e12, rel=0.001)
    assert peak["sources"]


def test_what_is_not_known_has_a_reason(api):
    figures = api(f"/{make_run(description={}).pk}")[1]["figures"]

    assert figures["mfu"]["value"] is None
    assert "flops_per_sample" in figures["mfu"]["reason"]
    assert figures["cost"]["reason"]


def test_lost_datagrams_are_told(api):
    answer = api(f"/{make_run(n_lost=4).pk}")[1]

    assert (answer["lost_datagrams"], answer["dropped_datagrams"]) == (8, 4)


def test_figures_are_of_the_window(api):
    run = make_run()
    answer = api(f"/{run.pk}", start=START + 10_000, end=START + 20_000)[1]

    assert answer["wall_seconds"]["productive"] == pytest.approx(10)
    assert (answer["start"], answer["end"]) == ("2023-11-14T22:13:30Z", "2023-11-14T22:13:40Z")


@pytest.mark.parametrize("path", ["", "/steps", "/ranks"])
def test_an_empty_window_is_refused(api, path):
    assert error(api(f"/{make_run().pk}{path}", start=START, end=START)) == (400, "invalid", "start")


@pytest.mark.parametrize("path", ["", "/steps", "/ranks"])
def test_a_window_of_too_many_steps_is_refused(api, monkeypatch, path):
    monkeypatch.setattr(runs, "_MOST_STEPS", 50)
    run = make_run()

    assert error(api(f"/{run.pk}{path}")) == (400, "invalid", "start")
    assert api(f"/{run.pk}{path}", start=START, end=START + 20_000)[0] == 200


# Steps and ranks -----------------------------------------------------------------------------------------------


def test_steps_come_one_by_one_where_they_fit(api):
    answer = api(f"/{make_run().pk}/steps")[1]

    assert answer["is_each"]
    assert answer["step_seconds"] is None
    assert answer["time_ms"][:2] == [START, START + 1000]
    assert answer["tokens_per_second"][0] == pytest.approx(16_384)
    assert answer["phases"]["forward"][0] == pytest.approx(0.3)


def test_steps_come_as_means_with_their_extremes_where_they_do_not_fit(api):
    answer = api(f"/{make_run().pk}/steps", points=10)[1]

    assert not answer["is_each"]
    assert len(answer["time_ms"]) == 10
    assert answer["min"][3] <= answer["seconds"][3] <= answer["max"][3]


def test_the_steps_of_one_rank(api):
    assert api(f"/{make_run().pk}/steps", rank=1)[1]["tokens_per_second"][0] == pytest.approx(8192)


@pytest.mark.parametrize(
    ("asked", "field"), [({"points": 1}, "points"), ({"rank": -1}, "rank"), ({"start": "x"}, "start")]
)
def test_a_question_that_cannot_be_understood_is_refused(api, asked, field):
    assert error(api(f"/{make_run().pk}/steps", **asked)) == (400, "invalid", field)


def test_the_steps_of_a_rank_that_the_run_has_not_are_refused(api):
    assert error(api(f"/{make_run(n_ranks=2).pk}/steps", rank=2)) == (400, "invalid", "rank")


def test_the_compute_time_of_a_rank_is_that_of_the_window(api):
    run = make_run(n_ranks=2, n_steps=1)
    slower = [rank_steps(rank, 60, start_ms=START + 60_000, compute_seconds=[0.8] * 40 + [0.4] * 20) for rank in (0, 1)]
    for own in slower:
        put(run, own)
    items = api(f"/{run.pk}/ranks", start=START + 60_000, end=START + 200_000)[1]["items"]

    assert [rank["compute_seconds"] for rank in items] == [0.8, 0.8]


def test_ranks_are_told_with_who_holds_up_the_others(api):
    run = make_run(n_ranks=4, slow={2: 1.12})
    answer = api(f"/{run.pk}/ranks")[1]

    assert [item["is_straggler"] for item in answer["items"]] == [False, False, True, False]
    assert answer["items"][2]["deviation"] == pytest.approx(0.12, abs=0.01)
    [straggler] = answer["stragglers"]
    assert (straggler["rank"], straggler["host"], straggler["waiting"]) == (2, "gpu-a01", 3)
    assert straggler["device"] == run.ranks.get(rank=2).device.uuid


def test_where_no_verdict_can_be_given_the_reason_is(api):
    answer = api(f"/{make_run(n_ranks=1).pk}/ranks")[1]

    assert answer["stragglers"] == []
    assert answer["reason"] == "a run of one rank has nobody that waits for it"


def test_the_description_of_the_api_has_them():
    paths = script(Role.VIEWER).get("/api/v1/openapi.json").json()["paths"]

    assert {
        "/api/v1/runs",
        "/api/v1/runs/{run_id}",
        "/api/v1/runs/{run_id}/steps",
        "/api/v1/runs/{run_id}/ranks",
    } <= set(paths)
