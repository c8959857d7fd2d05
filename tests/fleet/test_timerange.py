"""The time range in a page's address."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import BadRequest
from django.http import QueryDict

from fleet.pages import timerange

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def test_it_is_the_last_hour_by_default():
    window = timerange.of_query(QueryDict(""), NOW)
    assert (window.key, window.start_ms, window.end_ms) == ("1h", NOW_MS - 3_600_000, NOW_MS)


def test_a_zoomed_window_wins_over_the_named_range():
    window = timerange.of_query(QueryDict("range=6h&from=1000&to=2000"), NOW)
    assert (window.key, window.start_ms, window.end_ms) == ("6h", 1000, 2000)


@pytest.mark.parametrize(
    ("start_ms", "since_ms"), [(NOW_MS - 60_000, NOW_MS - 3_600_000), (NOW_MS - 7_200_000, NOW_MS - 7_200_000)]
)
def test_what_is_shown_begins_where_the_range_or_the_zoom_does_whichever_is_earlier(start_ms, since_ms):
    assert timerange.of_query(QueryDict(f"from={start_ms}&to={NOW_MS}"), NOW).since_ms == since_ms


@pytest.mark.parametrize(
    "query",
    [
        "range=2h",
        "from=1000",
        "from=x&to=2000",
        "from=2000&to=1000",
        "from=0&to=99999999999999",
        "from=253370764800000&to=253370764800001",
        "from=100000000000000000&to=100000000000000001",
    ],
)
def test_it_refuses_what_is_no_range(query):
    with pytest.raises(BadRequest):
        timerange.of_query(QueryDict(query), NOW)


def test_a_day_begins_at_one_moment_where_the_clock_is_set_back_over_midnight():
    """In Havana the hour from midnight on came twice that day: the day began when it came first."""
    zone = ZoneInfo("America/Havana")
    in_the_first, in_the_second = (datetime(2026, 11, 1, hour, 30, tzinfo=UTC) for hour in (4, 5))

    assert {timerange.midnight(at, zone).timestamp() for at in (in_the_first, in_the_second)} == {
        datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp()
    }
