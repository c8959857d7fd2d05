"""Values → the paths of a sparkline."""

from fleet.pages import sparkline


def test_a_gap_splits_the_line():
    line, area = sparkline.paths([0.0, 1.0, None, 1.0, 0.0])
    assert line.count("M") == area.count("M") == 2


def test_values_span_the_height_between_the_limits():
    line, _ = sparkline.paths([0.0, 1.0], 0.0, 1.0)
    assert line == "M0.0 28.0L200.0 2.0"


def test_a_value_beyond_the_limits_stays_inside_the_picture():
    assert sparkline.paths([5.0, 5.0], 0.0, 1.0)[0] == "M0.0 2.0L200.0 2.0"


def test_without_any_value_nothing_is_drawn():
    assert sparkline.paths([None, None]) == ("", "")
