"""The price of a kilowatt-hour, flat or by the time of day."""

from datetime import UTC, datetime

import pytest

from fleet.environment import tariff
from fleet.environment.env import Environment, EnvironmentInvalid

BERLIN = "Europe/Berlin mon-fri 06:00-22:00 0.31, sat 08:00-12:00 0.28"


def read(**values):
    return tariff.read(Environment({f"STEPWATT_{name}": value for name, value in values.items()}))


def at(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


def test_without_a_price_there_is_no_tariff():
    assert read() is None


def test_a_flat_price_holds_at_any_time():
    assert read(PRICE_PER_KWH="0.2").price_of_bucket(at(2026, 1, 5, 3), 3_600_000) == 0.2


@pytest.mark.parametrize(
    ("moment", "price"),
    [
        ((2026, 1, 5, 4, 45), 0.22),  # Monday 05:45 in Berlin
        ((2026, 1, 5, 5, 0), 0.31),
        ((2026, 7, 6, 4, 0), 0.31),  # Monday 06:00 in Berlin's summer
        ((2026, 1, 5, 21, 0), 0.22),
        ((2026, 1, 10, 8, 0), 0.28),
        ((2026, 1, 11, 8, 0), 0.22),
    ],
)
def test_bands_hold_at_local_time(moment, price):
    assert read(PRICE_PER_KWH="0.22", TARIFF=BERLIN).price_at(at(*moment)) == price


def test_a_bucket_across_two_bands_has_their_mean_price():
    found = read(PRICE_PER_KWH="0.10", TARIFF="UTC 06:30-07:00 0.30")

    assert found.price_of_bucket(at(2026, 1, 5, 6), 3_600_000) == pytest.approx(0.20)


def test_a_band_begins_and_ends_on_any_minute():
    found = read(PRICE_PER_KWH="0.10", TARIFF="UTC 07:10-07:50 0.40")

    assert [found.price_at(at(2026, 1, 5, 7, minute)) for minute in (9, 10, 49, 50)] == [0.1, 0.4, 0.4, 0.1]
    assert found.price_at(at(2026, 1, 5, 7, 10) - 1) == 0.1
    assert found.price_of_bucket(at(2026, 1, 5, 7), 900_000) == pytest.approx((10 * 0.1 + 5 * 0.4) / 15)
    assert found.price_of_bucket(at(2026, 1, 5, 7, 9) + 30_000, 60_000) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("zone", "begins"), [("Asia/Kolkata", (1, 40)), ("Asia/Kathmandu", (1, 25)), ("America/St_Johns", (10, 40))]
)
def test_a_band_begins_at_local_time_where_that_is_off_the_hour(zone, begins):
    found = read(PRICE_PER_KWH="0.1", TARIFF=f"{zone} 07:10-08:00 0.4")
    moment = at(2026, 1, 5, *begins)

    assert [found.price_at(moment - 1), found.price_at(moment), found.price_at(moment + 50 * 60_000)] == [0.1, 0.4, 0.1]


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 29), 1), ((2026, 7, 5), 2), ((2026, 10, 25), 3)], ids=["spring", "summer", "autumn"]
)
def test_a_band_lasts_as_long_as_its_local_time_does(day, hours):
    found = read(PRICE_PER_KWH="0.1", TARIFF="Europe/Berlin 01:10-03:10 0.4")
    start = at(*day) - 2 * 3_600_000

    lasted = sum(length for length, price in found.parts(start, start + 24 * 3_600_000) if price == 0.4)

    assert lasted == hours * 3_600_000


@pytest.mark.parametrize(
    ("text", "is_finer"),
    [
        ("Europe/Berlin 06:00-22:00 0.4", False),
        ("Europe/Berlin 06:30-22:00 0.4", True),
        ("Asia/Kolkata 06:00-22:00 0.4", True),
        ("Australia/Lord_Howe 06:00-22:00 0.4", True),  # half an hour of summer time
    ],
)
def test_it_tells_whether_prices_change_within_hours(text, is_finer):
    found = read(PRICE_PER_KWH="0.1", TARIFF=text)

    assert found.changes_within_hours(at(2026, 1, 5), at(2026, 12, 1)) is is_finer


def test_days_may_run_across_the_weeks_end():
    found = read(PRICE_PER_KWH="0.1", TARIFF="UTC sat-mon 00:00-24:00 0.05")

    assert [found.price_at(at(2026, 1, day)) for day in (9, 10, 11, 12, 13)] == [0.1, 0.05, 0.05, 0.05, 0.1]


@pytest.mark.parametrize(
    "text", ["Mars/Base 06:00-07:00 0.3", "UTC 07:00-06:00 0.3", "UTC mon-xyz 06:00-07:00 0.3", "UTC 06:00 0.3", "UTC"]
)
def test_a_tariff_that_cannot_be_read_names_the_setting(text):
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_TARIFF"):
        read(PRICE_PER_KWH="0.2", TARIFF=text)


def test_a_tariff_without_a_price_for_the_rest_is_refused():
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_PRICE_PER_KWH"):
        read(TARIFF=BERLIN)
