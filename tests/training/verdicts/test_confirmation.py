"""Confirming a suspicion by fresh runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.verdicts.confirmation import FINE_EFFECT, LEAST_EFFECT, TooFew, Welch, confirm, welch

BASE = [1.00, 1.04, 0.96, 1.02, 0.98, 1.05, 0.95, 1.01, 0.99, 1.00]
times = st.lists(st.floats(0.5, 2.0), min_size=5, max_size=12)


def test_t_and_its_degrees_of_freedom_are_welchs():
    """Means 3 and 2, variances 1 and 2.5: t = 1/√(1/3 + 1/2), df = (5/6)²/((1/3)²/2 + (1/2)²/4)."""
    found = welch(np.exp([2.0, 3.0, 4.0]).tolist(), np.exp([0.0, 1.0, 2.0, 3.0, 4.0]).tolist())

    assert found.t == pytest.approx(1.0954451)
    assert found.df == pytest.approx(5.8823529)
    assert found.slowdown == pytest.approx(np.e - 1)


def test_a_device_that_is_10_percent_slower_is_found():
    found = confirm({"step": welch([1.10 * each for each in BASE[:5]], BASE)})["step"]

    assert found.is_slow
    assert found.welch.slowdown == pytest.approx(0.10, abs=0.01)


def test_a_certain_difference_below_the_least_effect_is_not_slow():
    found = confirm({"step": welch([1.029] * 5, [1.00, 1.0001] * 5 + [1.2, 0.83])})["step"]

    assert found.welch.least_effect == LEAST_EFFECT
    assert not found.is_slow


def test_an_even_device_shows_smaller_slow_downs():
    even = [1 + (each - 1) / 10 for each in BASE]

    found = confirm({"step": welch([each * 1.02 for each in even[:5]], even)})["step"]

    assert found.welch.least_effect == FINE_EFFECT
    assert found.is_slow


def test_a_rate_that_fell_is_slow():
    fresh = [100 / (1.15 * each) for each in BASE[:5]]

    assert confirm({"rate": welch(fresh, [100 / each for each in BASE], is_lower_better=False)})["rate"].is_slow


def test_runs_that_agree_to_the_last_bit_are_told_apart():
    assert confirm({"step": welch([1.05] * 5, [1.0] * 10)})["step"].is_slow
    assert not confirm({"step": welch([1.0] * 5, [1.0] * 10)})["step"].is_slow


@pytest.mark.parametrize(("fresh", "baseline"), [([1.0], BASE), ([], BASE), (BASE[:5], BASE[:4])])
def test_a_verdict_on_too_few_runs_is_refused(fresh, baseline):
    with pytest.raises(TooFew):
        welch(fresh, baseline)


def test_holm_corrects_for_every_metric_that_was_looked_at():
    tests = {name: Welch(5, 10, 0, 9, p, 0.5, 0.03) for name, p in (("a", 0.004), ("b", 0.02), ("c", 0.006))}

    found = confirm(tests)

    assert {name: each.p_adjusted for name, each in found.items()} == pytest.approx({"a": 0.012, "b": 0.02, "c": 0.012})
    assert not any(each.is_slow for each in found.values())


@given(fresh=times, baseline=times, factor=st.floats(0.01, 100))
def test_another_unit_changes_nothing(fresh, baseline, factor):
    one = welch(fresh, baseline)
    other = welch([each * factor for each in fresh], [each * factor for each in baseline])

    assert other.slowdown == pytest.approx(one.slowdown, rel=1e-6, abs=1e-9)
    assert other.p == pytest.approx(one.p, abs=1e-6)


@given(fresh=times, baseline=times)
def test_what_is_slower_one_way_is_faster_the_other_way(fresh, baseline):
    assert welch(fresh, baseline).p + welch(baseline, fresh).p == pytest.approx(1.0, abs=1e-9)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=6))
def test_correction_never_makes_a_p_smaller_and_keeps_their_order(p_values):
    found = confirm({name: Welch(5, 10, 0, 9, p, 0.5, 0.03) for name, p in p_values.items()})

    assert all(found[name].p_adjusted >= p for name, p in p_values.items())
    by_p = sorted(p_values, key=lambda name: p_values[name])
    assert [found[name].p_adjusted for name in by_p] == sorted(found[name].p_adjusted for name in by_p)
