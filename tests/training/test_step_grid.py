"""Steps as columns of a chart: one each while they fit, means within equal times else; gaps stay gaps."""

import numpy as np
import pytest

from training.steps.columns import StepKind, of_arrays
from training.steps.grid import grid

START = 1_700_000_000_000.0


def steps(*seconds, ranks=1, phases=None, pause=0.0, **told):
    """Each of `seconds` in a row, with `pause` s between them, on each rank; `told` are columns per step."""
    ended = START + np.cumsum(np.array(seconds) + pause) * 1000
    columns = {
        "ended_ms": np.repeat(ended, ranks),
        "seconds": np.repeat(seconds, ranks),
        "rank": np.tile(np.arange(ranks), len(seconds)),
        "number": np.repeat(np.arange(len(seconds)), ranks),
    } | {name: np.repeat(values, ranks) for name, values in told.items()}
    return of_arrays(columns, {name: np.repeat(values, ranks) for name, values in (phases or {}).items()})


def test_few_steps_are_one_column_each():
    made = grid(steps(1.0, 2.0, 1.5, samples=[8, 8, 8]), START, START + 10_000, 480)

    assert made.is_each
    assert made.seconds.tolist() == [1.0, 2.0, 1.5]
    assert made.start_ms.tolist() == [START, START + 1000, START + 3000]
    assert made.samples_per_second.tolist() == pytest.approx([8.0, 4.0, 8 / 1.5])


def test_a_step_of_several_ranks_is_as_long_as_its_slowest_and_has_the_samples_of_all():
    found = of_arrays(
        {"ended_ms": [START + 1000, START + 1200], "seconds": [1.0, 1.2], "rank": [0, 1], "number": [5, 5],
         "samples": [8, 8]}, {"forward": [0.4, 0.6]}
    )  # fmt: skip
    made = grid(found, START, START + 10_000, 480)

    assert (made.seconds.tolist(), made.low.tolist()) == ([1.2], [1.0])
    assert made.samples_per_second.tolist() == pytest.approx([16 / 1.2])
    assert made.phases["forward"].tolist() == [0.5]


def test_many_steps_share_columns_that_keep_the_shortest_and_the_longest():
    seconds = [1.0] * 999 + [7.0]
    made = grid(steps(*seconds, samples=[4.0] * 1000), START, START + 1_006_001, 100)

    assert not made.is_each
    assert len(made) == 100
    assert (np.nanmin(made.low), np.nanmax(made.high)) == (1.0, 7.0)
    assert made.samples_per_second[10] == pytest.approx(4.0)


def test_the_rate_of_ranks_in_step_is_theirs_together():
    made = grid(steps(*[0.5] * 400, ranks=4, samples=[2.0] * 400), START, START + 200_001, 50)

    assert made.samples_per_second == pytest.approx(np.full(50, 16.0))


def test_a_column_that_a_long_step_covers_has_its_value_and_a_pause_has_none():
    seconds = [0.1] * 500 + [10.0] + [0.1] * 100
    found = steps(*seconds)
    late = found.ended_ms > START + 60_000
    found = of_arrays({"ended_ms": found.ended_ms + late * 20_000, "seconds": found.seconds, "number": found.number})
    made = grid(found, START, found.ended_ms[-1] + 1, 90)

    assert made.seconds[55] == pytest.approx(10.0)
    assert np.isnan(made.seconds[68:78]).all()


def test_what_the_loop_does_not_tell_stays_unknown():
    made = grid(steps(*[1.0] * 30), START, START + 30_001, 10)

    assert np.isnan(made.samples_per_second).all()
    assert np.isnan(made.loss).all()


def test_other_kinds_are_no_training():
    kinds = [StepKind.TRAIN, StepKind.VALIDATION, StepKind.TRAIN]
    made = grid(steps(1.0, 5.0, 1.0, kind=kinds), START, START + 10_000, 480)

    assert made.seconds.tolist() == [1.0, 1.0]


def test_numbers_that_a_restart_repeats_are_steps_of_their_own():
    made = grid(steps(1.0, 1.0, number=[7, 7], attempt=[0, 1]), START, START + 10_000, 480)

    assert len(made) == 2


def test_a_window_without_a_step_has_no_column():
    assert len(grid(steps(1.0), START + 50_000, START + 60_000, 480)) == 0
