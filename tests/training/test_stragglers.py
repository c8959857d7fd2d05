import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import straggler_noise as noise
from tests.training.steps_made import START_MS
from training.runs import rank_matrix, stragglers
from training.runs.stragglers import episodes, judge
from training.steps.columns import StepKind, of_arrays

RECORDED = (noise.gpt_3(), noise.nanogpt())


def steps_of(compute, *, communication=0.2, **columns):
    """Steps in lockstep of `compute (n_steps, n_ranks)`: each lasts as long as the slowest rank, and communication."""
    n_steps, n_ranks = compute.shape
    slowest = np.nanmax(compute, axis=1) + communication
    return of_arrays(
        {
            "rank": np.tile(np.arange(n_ranks), n_steps),
            "number": np.repeat(np.arange(n_steps), n_ranks),
            "ended_ms": np.repeat(START_MS + np.cumsum(slowest) * 1000, n_ranks),
            "seconds": np.repeat(slowest, n_ranks),
            "compute_seconds": compute.ravel(),
        }
        | columns
    )


def planted(slower=0.10, rank=3, n_ranks=8, n_steps=130, since=100, seed=1):
    compute = RECORDED[0].compute(n_steps, n_ranks, np.random.default_rng(seed))
    compute[since:, rank] *= 1 + slower
    return compute


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each.name)
@pytest.mark.parametrize("n_ranks", [2, 8, 64])
def test_a_rank_that_becomes_10_percent_slower_is_found_within_30_steps(recorded, n_ranks):
    after = noise.found_after(recorded, 0.10, n_ranks, np.random.default_rng(5), trials=50)
    assert after.max() <= 30


@pytest.mark.parametrize(("recorded", "hours"), [(RECORDED[0], 3000), (RECORDED[1], 1000)], ids=["GPT-3", "GPT-2"])
def test_recorded_noise_makes_fewer_than_one_false_verdict_in_1000_rank_hours(recorded, hours):
    n, looked_at, levels = noise.false_verdicts(recorded, hours, 64, np.random.default_rng(7))
    assert looked_at >= hours
    assert n == 0
    assert levels.max() < stragglers.LEAST / 2


def test_the_verdict_names_who_how_much_and_what_the_others_lose():
    found = judge(steps_of(planted()))
    (verdict,) = found.stragglers
    assert verdict.rank == 3
    assert verdict.excess == pytest.approx(0.10, abs=0.005)
    assert verdict.excess_of_own == pytest.approx(0.10, abs=0.005)
    assert not verdict.is_from_the_first
    assert verdict.n_waiting == 7
    assert verdict.wait_seconds == pytest.approx(20 * 0.10 * 10.64, rel=0.05)


def test_the_onset_is_when_it_became_slow():
    steps = steps_of(planted())
    (verdict,) = judge(steps).stragglers
    ended = np.unique(steps.ended_ms)
    assert abs(np.searchsorted(ended, verdict.since_ms) - 100) <= 3


def test_a_rank_that_was_slow_from_the_first_is_found_and_said_to_be_so():
    (verdict,) = judge(steps_of(planted(since=0))).stragglers
    assert verdict.is_from_the_first
    assert verdict.excess_of_own is None


def test_stages_that_differ_by_design_are_no_stragglers():
    compute = RECORDED[0].compute(100, 8, np.random.default_rng(2)) * np.linspace(0.8, 1.2, 8)
    assert judge(steps_of(compute)).stragglers == ()


def test_one_burst_of_slow_steps_is_no_straggler():
    compute = RECORDED[0].compute(100, 8, np.random.default_rng(3))
    compute[85:94, 2] *= 2
    assert judge(steps_of(compute)).stragglers == ()


def test_all_ranks_slow_at_once_are_no_stragglers():
    compute = RECORDED[0].compute(100, 8, np.random.default_rng(4))
    compute[60:] *= 1.5
    assert judge(steps_of(compute)).stragglers == ()


def test_a_rank_that_is_fast_again_is_clear():
    compute = planted(n_steps=160)
    compute[130:, 3] /= 1.10
    assert judge(steps_of(compute)).stragglers == ()


def test_of_two_slow_ranks_the_one_that_others_wait_for_comes_first():
    compute = planted()
    compute[100:, 5] *= 1.2
    assert [each.rank for each in judge(steps_of(compute)).stragglers] == [5, 3]


def test_what_passed_before_the_end_is_found_as_an_episode_of_its_own():
    compute = planted(n_steps=400)
    compute[180:, 3] /= 1.10
    compute[250:300, 6] *= 1.3
    first, second = episodes(steps_of(compute))
    assert (first.rank, second.rank) == (6, 3)
    assert first.n_steps == pytest.approx(50, abs=6)
    assert second.n_steps == pytest.approx(80, abs=12)
    assert first.wait_seconds == pytest.approx(50 * 0.3 * 10.64, rel=0.1)
    assert first.since_ms < first.until_ms
    assert judge(steps_of(compute)).stragglers == ()


def test_without_communication_times_it_says_that_it_cannot_be_told():
    steps = steps_of(planted(), compute_seconds=np.full(130 * 8, np.nan))
    assert judge(steps).reason == stragglers.UNTOLD


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (np.ones((100, 1)), "a run of one rank has nobody that waits for it"),
        (np.ones((12, 4)), "12 steps are told by most ranks with their compute time: a verdict needs 20"),
        (np.ones((0, 4)), "no training step in this window"),
    ],
)
def test_what_cannot_be_told_has_its_reason(compute, reason):
    found = judge(steps_of(compute) if compute.size else of_arrays({"ended_ms": [], "seconds": []}))
    assert (found.stragglers, found.reason) == ((), reason)


def test_a_run_that_only_validates_has_no_step_to_judge():
    steps = steps_of(np.ones((30, 4)), kind=np.full(120, StepKind.VALIDATION))
    assert judge(steps).reason == "no training step in this window"


def test_warm_up_is_not_judged():
    compute = planted(since=0, n_steps=60)
    steps = steps_of(compute, is_warmup=np.repeat(np.arange(60) < 45, 8))
    assert "15 steps" in judge(steps).reason


def test_lost_datagrams_of_the_slow_rank_do_not_hide_it():
    compute = planted()
    compute[::3, 3] = np.nan
    steps = steps_of(compute)
    (verdict,) = judge(steps.select(np.isfinite(steps.compute_seconds))).stragglers
    assert verdict.rank == 3


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.lists(st.one_of(st.just(float("nan")), st.floats(0.1, 10)), min_size=5, max_size=5), min_size=1, max_size=5
    )
)
def test_the_distance_is_to_the_median_of_the_others(rows):
    compute = np.array(rows)
    found = rank_matrix.distances_to_others(compute)
    for row, rank in np.ndindex(compute.shape):
        others = np.delete(np.log(compute[row]), rank)
        known = others[np.isfinite(others)]
        expected = np.log(compute[row, rank]) - (np.median(known) if known.size else np.nan)
        assert found[row, rank] == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(8)), st.floats(0.5, 2.0))
def test_names_of_ranks_and_units_of_time_change_no_verdict(order, scale):
    (verdict,) = judge(steps_of(planted()[:, list(order)] * scale)).stragglers
    assert verdict.rank == order.index(3)
    assert verdict.excess == pytest.approx(0.10, abs=0.005)
