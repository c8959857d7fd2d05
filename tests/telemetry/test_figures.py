"""Figures and the arrays that fill them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from telemetry.charts import figures, traces
from telemetry.charts.chart_groups import GROUPS, Group, figure
from telemetry.charts.figures import Reference

MINUTES = [0, 60_000, 120_000, 180_000, 240_000]


def test_colours_travel_as_tokens():
    text = json.dumps(figures.as_json(figures.mean_with_band("ratio", "mean")))
    assert "token:s1/0.17" in text
    assert "var(--" not in text


def test_a_figure_holds_no_html_and_no_values():
    made = figures.as_json(figures.stacked("watts", ["atlas", "borealis"]))
    assert "<" not in json.dumps(made)
    assert all("x" not in trace and "y" not in trace for trace in made["data"])


def test_a_share_is_drawn_from_0_to_100_percent():
    made = figures.as_json(figures.mean_with_band("ratio", "mean"))["layout"]
    assert made["yaxis"]["range"] == [0, 1]
    assert made["meta"]["units"] == [[0.01, "%"]]


def test_gaps_are_never_bridged_and_webgl_is_never_used():
    made = figures.as_json(figures.peers("watts", 7, "GPUs", "GPU 5"))["data"]
    assert {trace["type"] for trace in made} == {"scatter"}
    assert {trace["connectgaps"] for trace in made} == {False}


@pytest.mark.parametrize(("are_several", "labels"), [(True, ["mean", "median"]), (False, ["mean"])])
def test_mean_and_median_are_told_apart_by_their_lines_and_one_device_has_no_median(are_several, labels):
    made = figures.as_json(figures.across_devices("ratio", are_several=are_several))

    assert [key["label"] for key in made["layout"]["meta"]["legend"]] == labels
    assert {key["shape"] for key in made["layout"]["meta"]["legend"]} == {"line", "dash"} - (
        {"dash"} if not are_several else set()
    )
    assert len(made["data"]) == len(traces.across_devices(MINUTES, *[[1.0] * 5] * 4)) == 3


def test_the_chosen_device_stands_before_its_peers():
    made = figures.as_json(figures.peers("watts", 7, "GPUs", "GPU 5"))
    assert [trace["line"]["color"] for trace in made["data"]] == ["token:s0"] * 7 + ["token:s2"]
    assert [(key["label"], key["traces"]) for key in made["layout"]["meta"]["legend"]] == [
        ("7 peers", list(range(7))),
        ("GPU 5", [7]),
    ]


def test_a_limit_is_a_dashed_line_with_its_words():
    made = figures.as_json(figures.mean_with_band("watts", "mean", references=[Reference(700.0, "power limit 700 W")]))
    assert made["layout"]["shapes"][0]["y0"] == 700.0
    assert made["layout"]["annotations"][0]["text"] == "power limit 700 W"


def test_only_the_last_of_stacked_charts_shows_its_ticks():
    made = figures.as_json(figures.mean_with_band("watts", "mean", is_stacked=True, shows_ticks=False))["layout"]
    assert made["xaxis"]["showticklabels"] is False


def test_a_band_is_split_at_a_gap():
    found = traces.band(MINUTES, [1, 1, None, 1, 1], [2, 2, None, 2, 2])
    assert found["x"] == [0, 60_000, 60_000, 0, None, 180_000, 240_000, 240_000, 180_000]
    assert found["y"] == [2, 2, 1, 1, None, 2, 2, 1, 1]


def test_a_stack_adds_up_and_keeps_each_groups_own_value():
    _, _, _, edge = traces.stacked(MINUTES[:2], [[10.0, 20.0], [1.0, 2.0]])
    assert edge["y"] == [11.0, 22.0]
    assert edge["customdata"] == [1.0, 2.0]


def test_a_group_in_a_gap_leaves_the_others_standing():
    _, first, _, second = traces.stacked(MINUTES[:2], [[10.0, None], [1.0, 2.0]])
    assert first["y"] == [10.0, None]
    assert second["y"] == [11.0, 2.0]


def test_a_mean_is_of_what_is_known():
    np.testing.assert_equal(traces.means([[1.0, None, None], [3.0, 5.0, None]]), [2.0, 5.0, np.nan])


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e13, 1e13) | st.just(np.nan)))
def test_a_packed_line_gives_its_values_to_six_figures_and_its_gaps(values: NDArray[np.float64]):
    made = traces.packed(values)
    is_gap = np.isnan(values)
    assert [rise is None for rise in made["rises"]] == is_gap.tolist()
    found = np.cumsum([rise for rise in made["rises"] if rise is not None]) * made["step"]
    greatest = np.abs(values[~is_gap]).max(initial=0)
    np.testing.assert_allclose(found, values[~is_gap], rtol=0, atol=max(1e-5 * greatest, 1e-9))


def test_a_packed_line_is_told_in_the_largest_steps_that_hold_it():
    assert traces.packed(np.array([0.96, 0.98, np.nan, 0.9])) == {"step": 0.02, "rises": [48, 1, None, -4]}
    assert traces.packed(np.array([1.98e9, 3.45e8]))["step"] == 15e6


def test_a_gap_spans_from_the_last_known_bucket_to_the_next():
    found = traces.gaps(MINUTES, [[1.0, None, 1.0, 1.0, 1.0]])["shapes"]
    assert [(shape["x0"], shape["x1"]) for shape in found] == [(0, 120_000)]


def test_buckets_that_may_still_arrive_are_no_gap():
    assert traces.gaps(MINUTES, [[1.0, 1.0, 1.0, None, None]])["shapes"] == []


def test_the_minutes_of_groups_that_may_still_be_made_are_no_gap():
    minutes = [60_000 * n for n in range(8)]
    coming, missing = [1.0] * 4 + [None] * 4, [1.0] * 3 + [None] * 5

    assert traces.gaps(minutes, [coming], traces.GROUP_JOURNEY_MS)["shapes"] == []
    assert traces.gaps(minutes, [missing], traces.GROUP_JOURNEY_MS)["shapes"][0]["x0"] == 120_000


def test_a_gap_in_one_of_two_columns_is_none():
    assert traces.gaps(MINUTES, [[None] * 5, [1.0] * 5])["shapes"] == []


def looks(made: dict[str, Any]) -> list[str]:
    return [key["shape"] for key in made["layout"]["meta"]["legend"]]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.key)
def test_lines_of_a_device_are_told_apart_by_more_than_their_colour(group: Group):
    shown = looks(figure(group, group.metrics))
    assert len(set(shown)) == len(shown)


def test_a_key_of_the_legend_is_drawn_as_its_line_is():
    lines = [figures.line("s1"), figures.line("s2", dash="dash"), figures.line("s0", width=1)]
    keys = [figures.Key(str(at), "s1", [at]) for at in range(3)]

    assert looks(figures.as_json(figures.figure(lines, unit="watts", keys=keys))) == ["line", "dash", "thin"]
    assert looks(figures.as_json(figures.stacked("watts", ["atlas", "borealis"]))) == ["box", "box"]
