"""The chart of a job's step times: what is drawn where, and on which scale."""

from datetime import UTC, datetime

import pytest

from training.jobs.figures import step_arrays, step_times
from training.jobs.queries import JobSteps
from training.models import ReferenceJob
from training.steps import columns as step_columns

START = 1_700_000_000_000
JOB = ReferenceJob(created_at=datetime.fromtimestamp(START / 1000, UTC))


def columns(*seconds, warm_up=0):
    ended, at = [], START
    for step in seconds:
        at += round(step * 1000)
        ended.append(at)
    is_warmup = [i < warm_up for i in range(len(seconds))]
    numbers = list(range(1, len(seconds) + 1))
    return JobSteps(numbers, ended, list(seconds), [None] * len(seconds), is_warmup, 1, step_columns.empty())


def test_the_figure_has_a_trace_for_each_array():
    assert len(step_times()["data"]) == len(step_arrays(JOB, columns(1.0), None)["traces"])


def test_the_figure_names_no_colour_but_tokens():
    text = str(step_times())

    assert "token:s1" in text
    assert "#" not in text


def test_warm_up_and_measured_steps_are_apart():
    warm, measured, _ = step_arrays(JOB, columns(0.4, 0.4, 0.5, warm_up=1), None)["traces"]

    assert warm["y"] == [0.4, None, None]
    assert measured["y"] == [None, 0.4, 0.5]
    assert warm["x"] == measured["x"]


def test_the_scale_is_that_of_the_measured_steps():
    warm, measured, above = step_arrays(JOB, columns(9.0, 0.5, 0.4, 0.4, warm_up=2), None)["traces"]

    ceiling = warm["y"][0]
    assert max(measured["y"][2:]) < ceiling < 0.5
    assert above["y"] == [ceiling, ceiling, None, None]
    assert warm["customdata"] == [9.0, 0.5, None, None]


def test_before_the_first_measured_step_nothing_is_clipped():
    warm, _, above = step_arrays(JOB, columns(9.0, 0.5, warm_up=2), None)["traces"]

    assert warm["y"] == [9.0, 0.5]
    assert above["y"] == [None, None]


def test_a_slow_measured_step_is_never_clipped():
    _, measured, _ = step_arrays(JOB, columns(0.4, 0.4, 7.0), None)["traces"]

    assert measured["y"] == [0.4, 0.4, 7.0]


@pytest.mark.parametrize(("seconds_left", "beyond_ms"), [(None, 0), (12.5, 12_500)])
def test_the_axis_reaches_to_the_expected_end(seconds_left, beyond_ms):
    answer = step_arrays(JOB, columns(1.0, 1.0), seconds_left)

    assert answer["range"] == [START, START + 2000 + beyond_ms]


def test_a_job_without_steps_has_an_axis_from_its_beginning():
    answer = step_arrays(JOB, columns(), None)

    assert answer["range"][0] == START
    assert [trace["x"] for trace in answer["traces"]] == [[], [], []]
    assert answer["shapes"] == []
    assert [words["text"] for words in answer["annotations"]] == ["no step has arrived"]


def test_the_span_of_the_warm_up_is_from_its_first_start_to_its_last_end():
    [span] = step_arrays(JOB, columns(2.0, 1.0, 0.5, warm_up=2), None)["shapes"]

    assert (span["x0"], span["x1"]) == (START, START + 3000)
