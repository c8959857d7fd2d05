"""The MFU that is kept for scraping, of runs that are running."""

from datetime import timedelta

import pytest

from telemetry.exposition.textformat import render
from tests.training.test_exposition import values
from tests.training.test_run_figures import a_run
from training.exposition import families
from training.models import Run
from training.runs.measures import measure

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
