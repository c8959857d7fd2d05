"""Figures by shape, loop or batch: each has its direction and its verdict, and the page says which have none."""

from datetime import timedelta

import pytest

from tests.training.judging.judged import NOW, SPREAD, board, judged
from tests.training.pages import text
from training.judging import metrics, suspicion
from training.models import FreshRun, Outcome, Verdict
from training.workloads.catalog import validate

pytestmark = pytest.mark.django_db
SQUARE, THIN = "gemm_flops_per_second/fp32 1024 × 1024 × 1024", "gemm_flops_per_second/fp32 16 × 2048 × 2048"


def swept(host, minute: float, *, square: float = 1.0, thin: float = 1.0, others: int = 0) -> Verdict:
    """Judge a sweep whose rates are these times the usual ones, its step as always."""
    even = SPREAD[int(minute) % len(SPREAD)]
    rates = {SQUARE: 1e12 * square * even, THIN: 2e11 * thin * even}
    rates |= {f"gemm_flops_per_second/{number}": 1e12 * even for number in range(others)}
    figures = {name.partition("/")[2]: rate for name, rate in rates.items()}
    params = validate("gemm-sweep", {})[1]
    return judged(host, even, minute, workload="gemm-sweep", params=params, result={"gemm_flops_per_second": figures})


def with_sweeps(host, n: int = 10):
    for minute in range(n):
        swept(host, minute - 100)
    return host


def z_of(verdict: Verdict, metric: str) -> float:
    return next(row["z"] for row in verdict.screens if row["metric"] == metric and row["side"] == "own")


def test_one_slow_shape_is_suspicious_although_the_step_is_as_always():
    verdict = swept(with_sweeps(board("a")), 0, thin=0.8)

    assert verdict.outcome == Outcome.SUSPECT
    assert "matrix product, fp32 16 × 2048 × 2048 -2" in verdict.reason
    assert z_of(verdict, SQUARE) < 1 < z_of(verdict, THIN)


def test_a_rate_that_rises_is_no_alarm():
    verdict = swept(with_sweeps(board("a")), 0, thin=1.5)

    assert verdict.outcome == Outcome.PASS
    assert z_of(verdict, THIN) < 0


def test_many_figures_are_screened_as_a_fleet_is():
    few, many = (swept(board(name), 0, others=n) for name, n in (("a", 0), ("b", 10)))

    assert {row["alarm_at"] for row in few.screens} == {3.5}
    assert [row["alarm_at"] for row in many.screens if row["metric"] == SQUARE] == [5.0, 5.0]
    assert [row["alarm_at"] for row in many.screens if row["metric"] == metrics.STEP.name] == [3.5, 3.5]


def test_fresh_runs_decide_of_the_shape_that_was_suspicious_alone():
    verdict = swept(with_sweeps(board("a")), 0, thin=0.8)
    suspicion.open_suspicion(verdict, NOW)
    for minute in range(1, 6):
        FreshRun.objects.create(verdict=verdict, job=swept(board(f"x{minute}"), minute, thin=0.8).job)

    suspicion.follow(NOW + timedelta(minutes=9))

    verdict.refresh_from_db()
    assert verdict.outcome == Outcome.SLOW
    assert {place: found["is_slow"] for place, found in verdict.confirmation.items()} == {f"own/{THIN}": True}


def test_the_page_says_of_each_figure_what_was_found_and_which_are_not_judged(viewer):
    verdict = swept(with_sweeps(board("a")), 0, thin=0.8)

    shown = text(viewer.get(f"/reference/{verdict.job_id}/verdict/"))

    assert "matrix product, fp32 16 × 2048 × 2048" in shown
    assert shown.count("no baseline") == 6  # of the other devices, standing and verdict of three figures
    assert "Figures that are not judged" in shown
    assert "samples per second follows from the steps" in shown


def test_what_is_no_positive_number_is_no_value():
    figures = {"copy": 1e9, "add": 0, "scale": None, "triad": "fast"}

    found = metrics.values("memory-bandwidth", {"loop_bytes_per_second": figures, "step_seconds_median": True})

    assert found == {"loop_bytes_per_second/copy": 1e9}
