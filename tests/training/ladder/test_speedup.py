"""Factor k and its interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ladder.speedup import FEWEST_BLOCKS, Word, blocks_needed, speedup, steps_to_pay, with_compilation

NAN = float("nan")
times = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=3, max_size=12)


def test_k_and_its_interval_are_those_of_the_paired_logarithms():
    found = speedup([1.0, 1.1, 0.9, 1.0, 1.0], [0.5, 0.56, 0.44, 0.51, 0.49])

    logs = np.log(np.array([1.0, 1.1, 0.9, 1.0, 1.0]) / np.array([0.5, 0.56, 0.44, 0.51, 0.49]))
    half = 2.776 * logs.std(ddof=1) / math.sqrt(5)
    assert found.k == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx(
        (math.exp(logs.mean() - half), math.exp(logs.mean() + half)), rel=1e-4
    )
    assert (found.n_blocks, found.word) == (5, Word.FASTER)


def test_the_interval_covers_the_true_factor_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = 2_000
    covered = 0
    for _ in range(trials):
        found = speedup(rng.lognormal(0, 0.05, 5).tolist(), (rng.lognormal(0, 0.05, 5) / 1.3).tolist())
        covered += found.low <= 1.3 <= found.high

    assert covered / trials == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("factor", "noise", "word"),
    [(1.5, 0.01, Word.FASTER), (1.0, 0.002, Word.EQUIVALENT), (0.7, 0.01, Word.SLOWER), (1.02, 0.1, Word.UNDECIDED)],
)
def test_the_word_goes_by_the_interval(factor, noise, word):
    spread = [1 - noise, 1.0, 1 + noise, 1 - noise / 2, 1 + noise / 2]

    assert speedup([factor * each for each in spread[::-1]], spread).word == word


def test_a_block_without_one_of_the_two_is_left_out():
    assert speedup([1.0, NAN, 1.0, 1.0], [0.5, 0.5, NAN, 0.5]).n_blocks == 2
    assert speedup([NAN], [1.0]) is None


def test_two_blocks_give_no_interval():
    found = speedup([1.0, 1.0], [0.5, 0.5])

    assert (found.k, found.low, found.high, found.word) == (2.0, None, None, Word.UNDECIDED)


@given(times)
def test_going_back_is_the_inverse(pairs):
    first, rung = [a for a, _ in pairs], [b for _, b in pairs]

    there, back = speedup(first, rung), speedup(rung, first)

    assert there.k * back.k == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


@given(times, st.floats(0.1, 10))
def test_a_host_that_is_slower_in_all_rungs_gives_the_same_k(pairs, factor):
    first, rung = [a for a, _ in pairs], [b for _, b in pairs]

    assert speedup([factor * each for each in first], [factor * each for each in rung]).k == pytest.approx(
        speedup(first, rung).k
    )


def test_compiling_pays_after_so_many_steps():
    steps = steps_to_pay(0.1, 0.08, 20.0)

    assert steps == 1000
    assert with_compilation(0.08, 20.0, steps) == pytest.approx(0.1)
    assert steps_to_pay(0.1, 0.1, 20.0) is None


def test_the_blocks_for_a_half_width_are_those_of_the_procedure():
    """At the CV of 4 to 5 % measured on a small machine: ±6.8 % with 5 blocks, ±4.1 % with 10."""
    assert blocks_needed(0.0385, 0.068) == 5
    assert blocks_needed(0.0405, 0.041) == 10
    assert blocks_needed(0.05, 0.01) is None


@pytest.mark.parametrize(("k", "cv"), [(1.04, 0.03), (1.0, 0.012), (0.96, 0.02)])
def test_with_as_many_blocks_as_it_says_an_undecided_rung_is_decided(k, cv):
    few = speedup(*blocks_of(k, cv, FEWEST_BLOCKS))
    assert (few.word, few.blocks_to_decide is None) == (Word.UNDECIDED, False)

    found = speedup(*blocks_of(k, cv, few.blocks_to_decide + 1))  # at one more than just enough, whatever the rounding

    assert found.word is not Word.UNDECIDED
    assert found.blocks_to_decide is None


def blocks_of(k, cv, n):
    """Return times of which d has exactly the mean ln k and the deviation √2·cv."""
    rank = np.arange(n) - (n - 1) / 2
    d = np.log(k) + 2**0.5 * cv * rank / rank.std(ddof=1)
    return np.exp(d), np.ones(n)


def test_what_lies_on_the_line_is_decided_by_no_number_of_blocks():
    assert speedup(*blocks_of(1.02, 0.01, 5)).blocks_to_decide is None
