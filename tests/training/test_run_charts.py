"""The charts of a run: figures and arrays fit each other, columns stand where steps were, pauses stay gaps."""

import numpy as np
import pytest

from tests.training.test_step_grid import START, steps
from training.runs.charts import (
    LOSS,
    MFU,
    REST,
    Columns,
    device_arrays,
    devices_figure,
    line_arrays,
    line_figure,
    marks,
    phase_colors,
    step_arrays,
    step_figure,
)
from training.steps.grid import grid
from training.steps.spans import Span

PHASES = {"forward": [0.4, 0.4, 0.4], "data": [0.1, 0.1, 0.1], "sync_weights": [0.2, 0.2, 0.2]}


def made(*seconds, phases=None, **told):
    return grid(steps(*seconds, phases=phases, **told), START, START + 100_000, 480)


@pytest.mark.parametrize("phases", [None, PHASES])
def test_the_step_figure_has_a_trace_for_each_array(phases):
    names = list(phases or {})
    arrays = step_arrays(made(1.0, 1.0, 1.0, phases=phases), names)

    assert len(step_figure(names)["data"]) == len(arrays["traces"])


def test_phases_have_their_fixed_colours_and_come_in_their_order_others_after_them():
    assert list(phase_colors(list(PHASES)).items())[:2] == [("data", "ph-data"), ("forward", "ph-fwd")]
    assert list(phase_colors(list(PHASES)))[2:] == ["sync_weights"]


def test_the_legend_shows_each_phase_own_value_and_what_no_phase_tells():
    names = [*PHASES, REST]
    arrays = step_arrays(made(1.0, 1.0, 1.0, phases=PHASES), names)
    shown = {key["label"]: arrays["traces"][key["traces"][0]] for key in step_figure(names)["layout"]["meta"]["legend"]}

    assert shown["forward"]["customdata"][0] == pytest.approx(0.4)
    assert shown[REST]["customdata"][0] == pytest.approx(0.3)
    assert shown["step"]["y"][0] == 1.0


def test_where_no_step_is_there_is_no_rest_of_one():
    told = steps(*[0.9] * 40, phases={"forward": [0.4] * 40})
    rest = step_arrays(grid(told, START, START + 100_000, 20), ["forward", REST])["traces"][3]["customdata"]

    assert rest[0] == pytest.approx(0.5)
    assert rest[-1] is None


def test_a_column_reaches_from_where_its_step_began_to_where_it_ended():
    corners = Columns(made(1.0, 2.0))

    assert corners.x == [START, START + 1000, START + 1000, START + 3000]
    assert corners.of(np.array([5.0, 6.0])) == [5.0, 5.0, 6.0, 6.0]


def test_means_stand_in_the_middle_of_their_time():
    corners = Columns(grid(steps(*[1.0] * 100), START, START + 100_000, 10))

    assert corners.x == [START + 5000 + 10_000 * i for i in range(10)]


def test_words_have_room_on_a_phone_too():
    spans = [Span("checkpoint", 40, 60), Span("evaluation", 66, 67)]

    assert [word["text"] for word in marks(spans, (0, 100), has_words=True)["annotations"]] == ["checkpoint"]


def test_words_do_not_stand_on_each_other():
    spans = [Span("warm-up", 0, 14), Span("evaluation", 9, 11), Span("evaluation", 60, 61)]
    words = {word["text"]: word["x"] for word in marks(spans, (0, 100), has_words=True)["annotations"]}

    assert words == {"warm-up": 7.0, "evaluation": 60}


def test_the_scale_is_that_of_the_measured_steps():
    drawn = step_arrays(made(60.0, 1.0, 1.1, is_warmup=[True, False, False]), [])

    assert 1.1 < drawn["scale"][1] < 1.3
    assert "scale" not in step_arrays(made(1.0, 1.1), [])


def test_a_pause_between_steps_is_a_gap():
    found = steps(1.0, 1.0, 1.0)
    late = found.ended_ms + np.array([0, 0, 60_000])
    corners = Columns(grid(type(found)(**{n: getattr(found, n) for n in found.__slots__} | {"ended_ms": late}),
                           START, START + 100_000, 480))  # fmt: skip

    assert corners.of(np.array([1.0, 2.0, 3.0])) == [1.0, 1.0, 2.0, 2.0, None, 3.0, 3.0]


def test_what_is_unknown_is_drawn_as_a_gap():
    assert line_arrays(made(1.0, 1.0), np.array([np.nan, 0.4]))["traces"][0]["y"] == [None, None, 0.4, 0.4]


def test_a_share_is_drawn_on_the_scale_of_its_changes():
    assert "range" not in line_figure(MFU)["layout"]["yaxis"]
    assert line_figure(LOSS)["layout"]["meta"]["units"] == [[1, ""]]


def test_the_chosen_device_stands_before_the_median_of_all():
    values = {"a": np.array([600.0, 610.0]), "b": np.array([620.0, 500.0]), "c": np.array([640.0, 630.0])}
    every = list(values.values())
    arrays = device_arrays([0, 1000], values, every, every, "b")
    figure = devices_figure("watts", 3, "GPUs", "rank 1", from_zero=True, shows_ticks=False)

    assert len(figure["data"]) == len(arrays["traces"])
    assert arrays["traces"][1]["y"] == [620.0, 610.0]
    assert arrays["traces"][2]["y"] == [620.0, 500.0]


def test_a_bucket_without_a_sample_of_any_device_is_a_gap():
    values = {"a": np.array([600.0, np.nan]), "b": np.array([620.0, np.nan])}
    every = list(values.values())

    assert device_arrays([0, 1000], values, every, every, "")["traces"][1]["y"] == [610.0, None]


def test_each_kind_of_span_is_named_once_where_it_is_widest():
    spans = [Span("evaluation", 10, 20), Span("evaluation", 40, 70), Span("restart", 80, 84)]
    drawn = marks(spans, (0, 100), has_words=True)

    assert len(drawn["shapes"]) == 3
    assert [(word["text"], word["x"]) for word in drawn["annotations"]] == [("evaluation", 55), ("restart", 80)]


def test_spans_outside_the_window_are_not_drawn():
    assert marks([Span("evaluation", 200, 210)], (0, 100), has_words=True)["shapes"] == []
