"""The MFU that is kept for scraping, of runs that are running."""

from datetime import timedelta

import pytest

from fleet.turns import TurnFailed
from telemetry.exposition.textformat import render
from tests.training.runs import goes_on, make_run
from tests.training.test_exposition import values
from tests.training.test_run_figures import a_run
from training.hooks.exposition import families
from training.models import FleetMfu, Run, RunLife
from training.runs import measures
from training.runs.measures import measure
from training.tasks import measure_runs

pytestmark = pytest.mark.django_db


def now_of(run):
    run.refresh_from_db()
    return run.last_step_at + timedelta(seconds=1)


def exposed(host, now):
    return values(render(families([host], now), openmetrics=False), "stepwatt_training_mfu_ratio", "run")


def test_a_running_runs_newest_mfu_is_told():
    host, _, run = a_run()

    assert measure(now_of(run), budget_seconds=60) == 1

    expected = 8 * 4.947e12 / 989.4e12  # each of two ranks has a device of its own
    assert exposed(host, now_of(run)) == {"llm": pytest.approx(expected, rel=0.01)}


def test_a_run_whose_flops_are_not_known_has_no_series():
    host, _, run = a_run(flops_per_sample=None)

    measure(now_of(run), budget_seconds=60)

    assert Run.objects.get().mfu_ratio is None
    assert exposed(host, now_of(run)) == {}


def test_a_run_that_is_over_is_neither_measured_nor_told():
    host, _, run = a_run()
    measure(now_of(run), budget_seconds=60)
    later = run.last_step_at + timedelta(minutes=6)

    assert measure(later, budget_seconds=60) == 0
    assert exposed(host, later) == {}


def test_the_window_holds_some_steps_however_long_they_are():
    _, _, run = a_run(seconds=120.0, n_steps=10)

    measure(now_of(run), budget_seconds=60)

    assert Run.objects.get().mfu_ratio == pytest.approx(8 / 120 * 4.947e12 / 989.4e12, rel=0.01)


def test_a_run_that_cannot_be_measured_stops_neither_the_fleets_history_nor_the_lives(monkeypatch):
    goes_on(make_run("running"))
    Run.objects.update(mfu_ratio=0.4)
    over = make_run("over")
    monkeypatch.setattr(measures, "utilisation", lambda *_: 1 / 0)

    with pytest.raises(TurnFailed):
        measure_runs()

    assert FleetMfu.objects.get().ranks == 2
    assert RunLife.objects.get().run == over
