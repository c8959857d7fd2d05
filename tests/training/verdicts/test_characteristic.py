"""The simulated characteristic: it runs the very procedure, and that keeps what was promised of it."""

import numpy as np
import pytest

from training.verdicts import beside_others
from training.verdicts.characteristic import Lognormal, Measured, curve, is_slow, z_of
from training.verdicts.confirmation import ALPHA, confirm, welch
from training.verdicts.screening import screen

TRIALS = 20_000


def test_a_trial_is_judged_as_a_real_run_would_be():
    rng = np.random.default_rng(7)
    old, fresh = rng.normal(0, 0.04, (200, 10)), rng.normal(0.08, 0.04, (200, 5))

    z, slow = z_of(fresh[:, 0], old), is_slow(fresh, old)

    for trial in range(200):
        baseline = np.exp(old[trial]).tolist()
        assert z[trial] == pytest.approx(screen(float(np.exp(fresh[trial, 0])), baseline).z)
        test = welch(np.exp(fresh[trial]).tolist(), baseline)
        is_clear = abs(test.p - ALPHA) > 1e-4  # at the very edge the interpolated quantile may say otherwise
        assert not is_clear or slow[trial] == confirm({"step": test})["step"].is_slow


@pytest.mark.parametrize(("cv", "slowdown", "power"), [(0.04, 0.10, 0.85), (0.01, 0.03, 0.95)])
def test_it_finds_what_it_is_to_find(cv, slowdown, power):
    sound, slow = curve(Lognormal(cv), [0.0, slowdown], trials=TRIALS)

    assert sound.confirmed < 0.0125  # 1 % and 3.5 standard errors of the simulation
    # Both ways together, of each regular run.
    assert max(sound.found_by_one, sound.found_by_series) <= sound.found < 0.002
    assert slow.confirmed > power


@pytest.mark.parametrize(("cv", "slowdown", "power"), [(0.04, 0.10, 0.85), (0.01, 0.03, 0.95)])
def test_with_a_second_baseline_it_finds_no_less_of_what_was_suspected(cv, slowdown, power):
    sound, slow = (beside_others.rates(Lognormal(cv), each, n_others=27, trials=TRIALS) for each in (0.0, slowdown))

    assert sound.found < 0.002
    assert slow.found_of_suspected > power


def test_a_second_baseline_is_tested_as_judge_and_suspicion_do():
    rng = np.random.default_rng(11)
    own, others = rng.normal(0, 0.02, (300, 10)), rng.normal(-0.05, 0.02, (300, 20))
    regular = rng.normal(0.03, 0.02, (300, 5))

    by_own, by_others = beside_others._suspected(regular, own, others)

    for trial in range(300):
        bases = {"own": np.exp(own[trial]).tolist(), "population": np.exp(others[trial]).tolist()}
        alarms = {side: screen(float(np.exp(regular[trial, -1])), base).is_alarm for side, base in bases.items()}
        tests = {side: welch(np.exp(regular[trial]).tolist(), base) for side, base in bases.items()}
        found = confirm(tests)
        wanted = alarms if any(alarms.values()) else {side: each.is_slow for side, each in found.items()}
        is_clear = all(abs(each.p_adjusted - ALPHA) > 1e-4 for each in found.values())
        assert not is_clear or (by_own[trial], by_others[trial]) == (wanted["own"], wanted["population"])


def test_the_fleets_own_noise_is_drawn_from():
    residuals = np.random.default_rng(3).normal(0, 0.04, 400)

    own, ideal = (curve(noise, [0.1], trials=TRIALS)[0] for noise in (Measured(residuals), Lognormal(0.04)))

    assert Measured(residuals).cv == pytest.approx(0.04, rel=0.1)
    assert own.confirmed == pytest.approx(ideal.confirmed, abs=0.06)
