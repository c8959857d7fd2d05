"""The simulated characteristic: it runs the very procedure, and that keeps what was promised of it."""

import numpy as np
import pytest

from training.verdicts.characteristic import Lognormal, Measured, _is_slow, _z, curve
from training.verdicts.confirmation import ALPHA, confirm, welch
from training.verdicts.screening import screen

TRIALS = 20_000


def test_a_trial_is_judged_as_a_real_run_would_be():
    rng = np.random.default_rng(7)
    old, fresh = rng.normal(0, 0.04, (200, 10)), rng.normal(0.08, 0.04, (200, 5))

    z, slow = _z(fresh[:, 0], old), _is_slow(fresh, old)

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
    assert sound.found_by_series < 0.002
    assert slow.confirmed > power


def test_the_fleets_own_noise_is_drawn_from():
    residuals = np.random.default_rng(3).normal(0, 0.04, 400)

    own, ideal = (curve(noise, [0.1], trials=TRIALS)[0] for noise in (Measured(residuals), Lognormal(0.04)))

    assert Measured(residuals).cv == pytest.approx(0.04, rel=0.1)
    assert own.confirmed == pytest.approx(ideal.confirmed, abs=0.06)
