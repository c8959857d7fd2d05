"""What was made of a minute before, and is kept as not all of its samples can be read any more. Called by the minutes. Pure."""

from collections.abc import Collection

import numpy as np

from telemetry.store import bucketing, statistics
from telemetry.store.rolled import Table
from telemetry.store.statistics import Field, Keys, Statistics, Whole


def with_better(made: Statistics, stands: Table, devices: Collection[int]) -> Statistics:
    """Return the bucket with what `stands` of it (one bucket) for those of the devices of which that knows more.

    It does where any of a device's metrics had more samples. Of the other devices the bucket is as it was made now.
    """
    kept = [device for device in devices if _knows_more(stands, made, device)]
    if not kept:
        return made
    own, before = ~np.isin(made.keys.owners, kept), np.isin(stands.keys.owners, kept)
    keys = np.concatenate([made.keys.table[own], stands.keys.table[before]])
    values = np.concatenate([made.values[own], stands.values[before]])
    return bucketing.without_empty(statistics.ordered(keys, values, made.start_ms, made.step_ms))


def _knows_more(stands: Table, made: Statistics, device: int) -> bool:
    now = _counts(made.keys, made.values, device)
    return any(n > now.get(number, 0) for number, n in _counts(stands.keys, stands.values, device).items())


def _counts(keys: Keys, values: Whole, device: int) -> dict[int, int]:
    """Return by metric how many samples a device has in the bucket."""
    rows = np.flatnonzero((keys.fields == Field.COUNT) & (keys.owners == device))
    return dict(zip(keys.numbers[rows].tolist(), values[rows, 0].tolist(), strict=True))
