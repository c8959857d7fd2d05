"""Base units → what people read."""

from datetime import UTC, datetime

import pytest

from fleet import units


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (651.4, "watts", "651 W"),
        (999.7, "watts", "1.00 kW"),
        (53_700, "watts", "53.7 kW"),
        (0, "watts", "0 W"),
        (480, "joules", "480 J"),
        (340_000, "joules", "340 kJ"),
        (1_663_000, "joules", "0.462 kWh"),
        (3.6e6, "joules", "1 kWh"),
        (512, "bytes", "512 B"),
        (69.2 * 2**30, "bytes", "69.2 GiB"),
        (80 * 2**30, "bytes", "80 GiB"),
        (1.395e9, "hertz", "1,395 MHz"),
        (12.5e9, "hertz", "12.5 GHz"),
        (0.8694, "ratio", "86.9 %"),
        (0.86, "ratio", "86 %"),
        (1.0, "ratio", "100 %"),
        (64.0, "celsius", "64 °C"),
        (-12.34, "celsius", "−12.3 °C"),
        (0.0123, "seconds", "12.3 ms"),
        (1.5, "seconds", "1.50 s"),
        (0, "seconds", "0 s"),
        (180, "seconds", "3 min"),
        (7200, "seconds", "2 h"),
        (1.234e13, "flop_per_second", "12.3 TFLOP/s"),
        (1234567.0, "count", "1,234,567"),
        (41.25, "samples/s", "41.2 samples/s"),
        (316_600, "tokens_per_second", "317 k tok/s"),
        (8_200, "tokens_per_second", "8,200 tok/s"),
        (0.805, "tokens_per_joule", "0.805 tok/J"),
        (0.0041, "samples_per_joule", "4.10 samples/kJ"),
        (136_700, "joules_each", "137 kJ"),
        (1.24, "joules_each", "1.24 J"),
        (0.07, "joules_each", "70 mJ"),
        (1500, "grams", "1.50 kg"),
    ],
)
def test_it_shows_a_quantity_in_the_unit_that_people_read(value, unit, shown):
    assert str(units.quantity(value, unit)).replace("\N{NARROW NO-BREAK SPACE}", " ") == shown


def test_the_unknown_is_a_dash_and_never_zero():
    assert [str(units.quantity(None, "watts")), units.count(None), units.duration(None)] == ["—", "—", "—"]


def test_a_number_that_is_not_finite_is_named_so():
    assert str(units.quantity(float("nan"), "seconds")) == "not finite"


@pytest.mark.parametrize("value", [0.00123, 0.123, 1.23, 12.3, 123, 1230])
def test_a_number_keeps_three_significant_figures(value):
    assert float(units.number(value).replace(",", "")) == value


def test_whole_figures_are_never_rounded_away():
    assert units.number(123_456.7) == "123,457"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.35, "350 ms"),
        (12.34, "12.3 s"),
        (125, "2 min 5 s"),
        (120, "2 min"),
        (11_520, "3 h 12 min"),
        (41 * 86_400 + 6 * 3600, "41 d 6 h"),
    ],
)
def test_a_duration_has_its_two_greatest_units(seconds, shown):
    assert units.duration(seconds).replace("\N{NARROW NO-BREAK SPACE}", " ") == shown


def test_a_chart_gets_the_units_it_may_choose_from():
    assert units.chart_ladder("watts") == [(1, "W"), (1e3, "kW"), (1e6, "MW")]


@pytest.mark.parametrize(
    ("unit", "value"), [("joules_each", 1.0), ("tokens_per_second", 1e3), ("samples_per_second", 1e3), ("joules", 1e3)]
)
def test_a_chart_divides_by_what_the_name_of_its_unit_says(unit, value):
    names = {"J": 1.0, "kJ": 1e3, "k tok/s": 1e3, "k samples/s": 1e3}
    assert any(names.get(name) == size == value for size, name in units.chart_ladder(unit))


def test_a_moment_is_written_in_utc():
    assert units.utc(datetime(2026, 11, 23, 16, 4, 39, tzinfo=UTC)) == "2026-11-23 16:04:39 UTC"
