"""The fleet's own noise, from which false alarms and power are simulated."""

import numpy as np
import pytest

from tests.training.judging.judged import board, judged
from training.judging import noise
from training.models import Outcome, Verdict

pytestmark = pytest.mark.django_db


def ran(name: str, values: list[float], **fields: object) -> None:
    """Have a host of that name run so often, each run clean."""
    host = board(name)
    for minute, seconds in enumerate(values):
        judged(host, seconds, minute, **fields)
    Verdict.objects.filter(job__host=host).update(outcome=Outcome.PASS)


def even(level: float, n: int, cv: float = 0.04) -> list[float]:
    return (level * np.exp(np.random.default_rng(int(level * 10)).normal(0, cv, n))).tolist()


def test_it_is_how_runs_vary_about_their_own_devices_median_whatever_the_devices_level():
    ran("a", even(1.0, 30))
    ran("b", even(5.0, 30))

    found = noise.of_fleet()

    assert found is not None
    assert found.residuals.size == 60
    assert found.cv == pytest.approx(0.04, rel=0.3)
    assert abs(np.median(found.residuals)) < 0.01


def test_devices_with_few_runs_say_nothing_and_too_few_in_all_are_no_noise():
    ran("a", even(1.0, 49))
    ran("b", even(2.0, 4))

    assert noise.of_fleet() is None


def test_contaminated_and_slow_runs_are_no_noise_and_a_workload_is_taken_alone():
    ran("a", even(1.0, 52))
    ran("b", [9.0, 1.0] * 3, workload="resnet-train")
    contaminated, slow = Verdict.objects.filter(job__host__name="a")[:2]
    Verdict.objects.filter(pk=contaminated.pk).update(is_clean=False, values={"step_seconds_median": 99.0})
    Verdict.objects.filter(pk=slow.pk).update(outcome=Outcome.SLOW, values={"step_seconds_median": 99.0})

    found = noise.of_fleet("gpt-train")

    assert found is not None
    assert found.residuals.size == 50
    assert np.abs(found.residuals).max() < 0.3
    assert noise.of_fleet("resnet-train") is None
