"""What a run did beside training, as spans of time."""

import numpy as np

from training.steps.columns import StepKind, of_arrays
from training.steps.spans import spans

START = 1_700_000_000_000.0


def steps(*rows):
    """Each row: (kind, seconds after START at which it ended, how long it took, attempt)."""
    kind, ended, seconds, attempt = (np.array(column) for column in zip(*rows, strict=True))
    return of_arrays({"kind": kind, "ended_ms": START + ended * 1000, "seconds": seconds, "attempt": attempt})


def as_seconds(found):
    return [(span.kind, (span.start_ms - START) / 1000, (span.end_ms - START) / 1000) for span in found]


def test_validation_steps_in_a_row_are_one_evaluation():
    found = steps((StepKind.TRAIN, 10, 5, 0), (StepKind.VALIDATION, 14, 4, 0), (StepKind.VALIDATION, 18, 4, 0),
                  (StepKind.TRAIN, 23, 5, 0), (StepKind.VALIDATION, 27, 4, 0))  # fmt: skip

    assert as_seconds(spans(found, 1000)) == [("evaluation", 10, 18), ("evaluation", 23, 27)]


def test_spans_closer_than_can_be_drawn_are_one():
    found = steps((StepKind.CHECKPOINT, 10, 2, 0), (StepKind.CHECKPOINT, 13, 2, 0))

    assert as_seconds(spans(found, 1000)) == [("checkpoint", 8, 13)]
    assert len(spans(found, 999)) == 2


def test_ranks_that_save_side_by_side_make_one_checkpoint():
    found = steps((StepKind.CHECKPOINT, 10, 8, 0), (StepKind.CHECKPOINT, 12, 4, 0), (StepKind.CHECKPOINT, 9, 1, 0))

    assert as_seconds(spans(found, 0)) == [("checkpoint", 2, 12)]


def test_the_time_between_two_attempts_is_a_restart():
    found = steps((StepKind.TRAIN, 10, 5, 0), (StepKind.TRAIN, 70, 5, 1), (StepKind.TRAIN, 75, 5, 1))

    assert as_seconds(spans(found, 0)) == [("restart", 10, 65)]


def test_a_run_that_only_trains_has_no_spans():
    assert spans(steps((StepKind.TRAIN, 10, 5, 0)), 0) == []
