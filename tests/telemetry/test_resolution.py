"""Where the resolutions of several owners meet: at the old end and at the new one."""

from itertools import pairwise

import numpy as np

from telemetry.store import resolution, statistics
from telemetry.store.rolled import Table
from telemetry.store.statistics import Field

QUARTER, HOUR = 900_000, 3_600_000
KEYS = statistics.ordered(np.array([[1, Field.COUNT, 0, 1]]), np.ones((1, 1), np.int64), 0, 1).keys


def made(step_seconds, first_ms, end_ms):
    starts = np.arange(first_ms, end_ms, 1000 * step_seconds)
    return Table(KEYS, 1000 * step_seconds, starts, np.ones((1, starts.size), np.int64))


class Store:
    """What owners have: by resolution in seconds, by owner."""

    def __init__(self, levels):
        self.levels = {level: self.levels_of(level, spans) for level, spans in levels.items()}

    def levels_of(self, level, spans):
        return {owner: made(level, *span) for owner, span in spans.items()}

    def read(self, level, start_ms, end_ms):
        found = {owner: table.between(start_ms, end_ms) for owner, table in self.levels.get(level, {}).items()}
        return {owner: table for owner, table in found.items() if table.starts_ms.size}


def layered(levels, end_ms, step, samples=None):
    store = Store(levels)
    read_samples = None if samples is None else lambda start, end: Store({60: samples}).read(60, start, end)
    return resolution.layered(0, end_ms, step, store.read, read_samples)


def covered(found, owner):
    """Return the owner's buckets as (start, end), after making sure that none stands twice and all are in order."""
    spans = [(int(at), int(at) + table.step_ms) for table in found.tables[owner] for at in table.starts_ms]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    return spans


def is_without_a_hole(found, owner, end_ms):
    spans = covered(found, owner)
    return (spans[0][0], spans[-1][1]) == (0, end_ms) and sum(end - start for start, end in spans) == end_ms


def test_whoever_lags_by_a_bucket_is_read_from_finer_ones_of_its_own_end_on():
    end_ms = 8 * QUARTER
    levels = {900: {"a": (0, 7 * QUARTER), "b": (0, 6 * QUARTER)}, 60: {"a": (0, end_ms), "b": (0, end_ms)}}

    found = layered(levels, end_ms, QUARTER)

    assert is_without_a_hole(found, "a", end_ms)
    assert is_without_a_hole(found, "b", end_ms)


def test_hours_quarters_minutes_and_samples_meet_where_each_owner_has_them():
    end_ms = 3 * HOUR
    levels = {
        3600: {"a": (0, 2 * HOUR), "b": (0, HOUR)},
        900: {"a": (0, 2 * HOUR + QUARTER), "b": (0, 2 * HOUR)},
        60: {"a": (0, end_ms - 120_000), "b": (0, end_ms - 180_000)},
    }

    found = layered(levels, end_ms, HOUR, {"a": (0, end_ms), "b": (0, end_ms)})

    assert is_without_a_hole(found, "a", end_ms)
    assert is_without_a_hole(found, "b", end_ms)


def test_whoever_is_new_is_read_from_minutes():
    levels = {900: {"a": (0, 7 * QUARTER)}, 60: {"a": (0, 8 * QUARTER), "new": (7 * QUARTER, 8 * QUARTER)}}

    assert covered(layered(levels, 8 * QUARTER, QUARTER), "new")[0][0] == 7 * QUARTER


def test_for_one_that_fell_silent_no_finer_buckets_are_read_of_the_time_since():
    asked = []
    store = Store({900: {"a": (0, 400 * QUARTER), "silent": (0, 4 * QUARTER)}, 60: {"a": (0, 401 * QUARTER)}})

    def read(level, start_ms, end_ms):
        asked.append((level, start_ms))
        return store.read(level, start_ms, end_ms)

    resolution.layered(0, 401 * QUARTER, QUARTER, read, None)

    assert [start for level, start in asked if level == 60] == [400 * QUARTER]


def test_one_that_keeps_all_its_minutes_does_not_hide_what_is_retired_of_another():
    end_ms = 8 * HOUR
    levels = {
        60: {"imported": (0, end_ms), "real": (4 * HOUR, end_ms)},
        900: {"imported": (0, end_ms), "real": (0, end_ms)},
        3600: {"imported": (0, end_ms), "real": (0, end_ms)},
    }

    found = layered(levels, end_ms, 60_000)

    assert found.grid.step_ms == QUARTER
    assert is_without_a_hole(found, "real", end_ms)


def test_one_that_joined_later_does_not_make_the_buckets_coarser():
    end_ms, joined = 8 * HOUR, 4 * HOUR + 7 * 60_000
    levels = {
        60: {"a": (0, end_ms), "later": (joined, end_ms)},
        900: {"a": (0, end_ms), "later": (4 * HOUR, end_ms)},
    }

    assert layered(levels, end_ms, 60_000).grid.step_ms == 60_000
