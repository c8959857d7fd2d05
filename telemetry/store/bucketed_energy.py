"""Samples of one host → energy of its devices over buckets. Pure; a part of bucketing.py, which has what else they hold."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from telemetry import catalog
from telemetry.decoding import matrix
from telemetry.store import joules
from telemetry.store.buckets import Grid, Rows
from telemetry.store.gather import Gathered
from telemetry.store.samples import Samples, milliseconds
from telemetry.store.statistics import ENERGY, Field


def of_devices(found: Gathered, ids: Mapping[str, int], grid: Grid) -> Iterator[Rows]:
    """Yield the joules, measured and estimated, and the covered time of each device of `ids` (by uuid) that tells any.

    All devices go through the accounts at once, one after another on one axis of time: a call costs more than a sample.
    """
    counters, powers = (_of_metric(found, ids, name) for name in ("energy_joules_total", "power_draw_watts"))
    owners = sorted({*counters, *powers})
    if not owners:
        return
    before, width = _room(found, grid)
    counter = _end_to_end(found, counters, owners, "energy_joules_total", width * grid.step_ms)
    power = _end_to_end(found, powers, owners, "power_draw_watts", width * grid.step_ms)
    first_ms = grid.first_ms - before * grid.step_ms
    each = joules.per_bucket(counter, power, first_ms, grid.step_ms, len(owners) * width)
    for field, values in ((Field.MEASURED_MILLIJOULES, each.measured), (Field.ESTIMATED_MILLIJOULES, each.estimated),
                          (Field.COVERED_MILLISECONDS, each.covered_seconds)):  # fmt: skip
        inside = values.reshape(len(owners), width)[:, before : before + grid.n]
        keys = np.array([[ENERGY, field, 0, owner] for owner in owners], np.int64)
        yield Rows(keys, np.rint(1000 * inside).astype(np.int64))


def _room(found: Gathered, grid: Grid) -> tuple[int, int]:
    """Return how many buckets lie before the grid with samples, and how many a device needs so that none meets the next."""
    buckets = grid.buckets(found.times_ms)
    before = max(0, -int(buckets.min(initial=0)))
    return before, before + max(grid.n, int(buckets.max(initial=0)) + 1) + 1


def _of_metric(found: Gathered, ids: Mapping[str, int], name: str) -> dict[int, int]:
    """Return the row of each device's series, by device id."""
    number = catalog.BY_NAME[name].number
    return {ids[uuid]: row for row, (uuid, of) in enumerate(found.series) if of == number and uuid in ids}


def _end_to_end(
    found: Gathered, rows: Mapping[int, int], owners: Sequence[int], name: str, apart_ms: int
) -> Samples | None:
    """Return the samples of all owners, each `apart_ms` after the one before, and on clocks of its own."""
    places = [place for place, owner in enumerate(owners) if owner in rows]
    at = np.array([rows[owners[place]] for place in places], np.int64)
    row, tick = np.nonzero(found.present[at])
    if not row.size:
        return None
    place = np.array(places, np.int64)[row]
    values = matrix.in_base_units(found.steps[at[row], tick], catalog.BY_NAME[name].resolution)
    clocks = found.clocks[tick] + place * len(found.names)
    return Samples(found.times_ms[tick] + place * apart_ms, values, clocks, milliseconds(found.seconds[tick]))
