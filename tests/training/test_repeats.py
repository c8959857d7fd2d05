"""Jobs that measure their steps more than once: ordered, run, told, judged as one run, shown and printed."""

import re

import pytest
from rich.console import Console

from fleet.access.audit import Actor
from tests.databases import opened
from tests.telemetry.test_migrations import migrate, model_of
from tests.training.agents import TINY, StandInAgent
from tests.training.judging.judged import board, judged, with_history
from tests.training.judging.judged import finished as ended
from tests.training.pages import PARAMS, RESULT, finished, job_in, text, with_steps
from tests.training.reference_jobs import ready_host
from training.jobs import launch
from training.jobs.table import result_table
from training.judging import metrics
from training.judging.key import digest, parts
from training.message import wire
from training.models import JobState, Outcome
from training.workloads.catalog import validate

pytestmark = pytest.mark.django_db
BEFORE, AFTER = ("training", "0013_teams"), ("training", "0014_jobs_that_measured_once")
IN_ORDER = ("training", "0015_later_parameters_last")
THREE = {"repeats": 3}
OF_THREE = {
    "repeats": 3, "repeat_samples_per_second": {"1": 24.0, "2": 25.0, "3": 20.0},
    "repeat_step_seconds_median": {"1": 0.33, "2": 0.32, "3": 0.4}, "repeat_samples_per_second_median": 24.0,
    "repeat_spread_ratio": 5 / 24, "measured_steps": 180,
}  # fmt: skip


@pytest.mark.parametrize(("params", "told"), [({}, None), ({"repeats": 1}, None), ({"repeats": 3}, 3)])
def test_an_order_names_repeats_only_where_there_are_several_as_older_agents_know_none(outbox, params, told):
    (job,) = launch.launch("gpt-train", [ready_host("a").name], params, actor=Actor("ada"))

    ((_, body),) = outbox.taken("a")

    assert wire.unpack_order(body).params.get("repeats") == told
    assert job.params["repeats"] == (told or 1)


def test_a_real_job_measures_its_block_three_times_and_every_figure_of_it_is_declared(tmp_path):
    agent = StandInAgent(tmp_path)
    agent.order(1, workload="allreduce", params=TINY | THREE)

    end = agent.end_of(1)

    assert (end.state, end.total_steps, end.result["measured_steps"]) == ("done", 16, 15), end.log
    assert list(end.result["repeat_samples_per_second"]) == ["1", "2", "3"]
    assert wire.unpack_report(wire.pack(end)).result == end.result
    declared = dict(metrics.not_judged("allreduce", end.result))
    assert {name for name in end.result if name.startswith("repeat_")} - set(declared) == {"repeat_spread_ratio"}


def test_repeats_in_one_process_are_one_run_of_a_baseline():
    host = board("a")
    for minute in range(4):
        judged(host, 1.0, minute - 100, params=THREE, result=OF_THREE)

    verdict = judged(host, 2.0, params=THREE, result=OF_THREE)

    assert verdict.outcome == Outcome.NO_BASELINE
    assert "4 earlier clean runs" in verdict.reason


def test_a_job_with_one_repeat_is_compared_with_those_from_before_there_were_repeats():
    host = with_history(board("a"))
    job = ended(host)
    old = {name: value for name, value in job.params.items() if name != "repeats"}

    assert job.params["repeats"] == 1
    several = ended(host, params=THREE)
    job_of_before = ended(host)
    job_of_before.params = old
    assert digest(parts(job)) == digest(parts(job_of_before)) != digest(parts(several))


def test_the_page_tells_each_repeat_their_median_and_how_far_they_are_apart(viewer):
    job = finished(params=PARAMS | THREE, result=RESULT | OF_THREE)

    page = text(viewer.get(f"/reference/{job.pk}/"))

    assert "Measure 3 times, 60 steps" in page
    assert "180 measured in 3 repeats after 5 of warm-up" in page
    assert re.search(r"median 24\s+sequences/s over 3 · from the slowest to the fastest 20.8\s%", page)
    assert "−16.7 %" in page


def test_a_running_job_shows_the_repeats_so_far_and_says_of_the_others_why_not(viewer):
    params = PARAMS | THREE | {"steps": 2, "warmup_steps": 1}
    job = job_in(JobState.RUNNING, params=params, stage="measure 2 of 3", total_steps=7)
    with_steps(job, 9.0, 0.5, 0.5, 1.0, warm_up=1)

    response = viewer.get(f"/reference/{job.pk}/")

    found = response.context["repeats"]
    assert [(row.number, row.rate, row.step_seconds) for row in found.rows] == [
        (1, 16.0, 0.5),
        (2, 8.0, 1.0),
        (3, None, None),
    ]
    assert (found.n_whole, found.rate, found.spread) == (1, 16.0, None)
    assert "Measuring, repeat 2 of 3" in text(response)
    assert "no step of it has arrived yet" in response.content.decode()
    assert [each.label for each in response.context["progress"].stages if each.progress == "now"] == [
        "Measure 2 of 3, 2 steps"
    ]


def test_a_result_whose_repeats_are_no_numbers_has_none(viewer):
    told = {"repeats": 3, "repeat_samples_per_second": {"1": "fast", "3": True}, "repeat_step_seconds_median": 7}
    job = finished(params=PARAMS | THREE, result=RESULT | told)

    found = viewer.get(f"/reference/{job.pk}/").context["repeats"]

    assert [(row.rate, row.step_seconds) for row in found.rows] == [(None, None)] * 3
    assert (found.rate, found.spread) == (None, None)


def test_a_job_that_measures_once_has_no_such_panel(viewer):
    assert viewer.get(f"/reference/{finished().pk}/").context["repeats"] is None


def test_the_command_prints_them_below_its_table(capsys):
    job = finished(params=PARAMS | THREE, result=RESULT | OF_THREE)

    Console(width=200).print(result_table([job]))

    assert "a: samples/s by repeat 24, 25, 20; median 24, spread 20.83 %" in capsys.readouterr().out


@pytest.fixture(scope="module")
def before(databases, django_db_blocker) -> str:
    """Return the URL of a database from before there were repeats."""
    url = databases.make()
    with django_db_blocker.unblock(), opened(url):
        migrate("fleet", "0009_alert_index")
        migrate(*BEFORE)
    return url


@pytest.fixture
def from_before(databases, before, django_db_blocker):
    """Have the test's database be a copy of that."""
    with django_db_blocker.unblock(), opened(databases.make(like=before)):
        yield


def jobs_with(*kinds: dict[str, object]):
    """Store a job of each kind; returns those who tell of jobs."""
    host = model_of("fleet", "0009_alert_index", "Host").objects.create(name="a")
    jobs = model_of(*BEFORE, "ReferenceJob").objects
    times = {"expires_at": "2026-11-28T12:00:00Z", "time_limit_seconds": 900}
    for launch_id, params in zip("abc", kinds, strict=False):
        jobs.create(launch=launch_id, workload="gpt-train", host_id=host.pk, params=params, **times)
    return jobs


def test_jobs_of_before_are_found_by_the_parameters_that_a_new_job_has(from_before):
    workload, now = validate("gpt-train", {})
    before = {param.name: param.default for param in workload.params if param.name != "repeats"}
    jobs = jobs_with(before)

    migrate(*AFTER)

    assert jobs.filter(params=now).count() == 1


def test_jobs_whose_repeats_stood_elsewhere_are_found_too(from_before):
    workload, now = validate("gpt-train", {})
    jobs = jobs_with({param.name: param.default for param in workload.params})

    migrate(*IN_ORDER)

    assert jobs.filter(params=now).count() == 1
    migrate(*AFTER)
    assert jobs.filter(params=now).count() == 1


def test_jobs_of_before_have_measured_once(from_before):
    jobs = jobs_with({"steps": 60}, {"steps": 60, "repeats": 3})

    migrate(*AFTER)

    assert list(jobs.order_by("launch").values_list("params", flat=True)) == [
        {"steps": 60, "repeats": 1},
        {"steps": 60, "repeats": 3},
    ]
    migrate(*BEFORE)
    assert list(jobs.order_by("launch").values_list("params", flat=True)) == [{"steps": 60}] * 2
