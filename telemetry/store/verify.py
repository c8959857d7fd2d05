"""Checking the store against itself: chunks by what they say of themselves, rollups by what they are made of.

Called by the command `verify_store`. Reads only. What is marked to be made again is not looked at.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from django.conf import settings
from django.db.models import QuerySet

from fleet.models import Host, Origin
from telemetry import catalog
from telemetry.models import Chunk, DirtyRollup, GroupRollup, Rollup, StoredBatch, Unreadable
from telemetry.store import (
    bucketing,
    chunks,
    idle_quarters,
    inputs,
    rolled,
    shortened,
    statistics,
    stays,
    stored_batches,
    unreadable,
)
from telemetry.store.chunks import HOUR_MS
from telemetry.store.inputs import MINUTE_MS, Span
from telemetry.store.rolled import Table
from telemetry.store.statistics import ENERGY, Field, RollupCorrupt, Statistics, Whole

_BELOW = {900: 60, 3600: 900}
LOOKS = 2  # of a bucket that changes while it is looked at, the second look finds it whole, or marked
_REACH_MS = bucketing.reach(0)[0]

Key = tuple[int, int, int, int]  # metric, field, argument, device
Values = dict[Key, int]


class Difference(NamedTuple):
    """`what` is wrong with the hour or bucket at `at_ms` of a device, or of a host where it is not one device's."""

    subject: str
    at_ms: int
    what: str

    def __str__(self) -> str:
        return f"{self.subject} at {datetime.fromtimestamp(self.at_ms / 1000, UTC):%F %T} UTC: {self.what}"


class Checked(NamedTuple):
    """What one host has: chunks and buckets that were looked at, what differs, and what of it cannot be read."""

    n_chunks: int
    n_buckets: int
    differences: list[Difference]
    unread: list[Unreadable]


def host(found: Host, since_ms: int, until_ms: int, now: datetime) -> Checked:
    """Check what the host has of since ≤ time < until, by whole hours; `now` tells what may have been retired."""
    held = stays.of_hosts([found.pk], since_ms - HOUR_MS, until_ms)[found.pk]
    uuids = {pk: uuid for uuid, pk in held.ids.items()}
    rows = Chunk.objects.filter(host=found, start_ms__gt=since_ms - HOUR_MS, start_ms__lt=until_ms).order_by("start_ms")
    differences, unread, n_chunks, hours = [], list[Unreadable](), 0, set()
    for row in rows.iterator(chunk_size=50):
        n_chunks += 1
        hours.add(row.start_ms)
        uuid = uuids.get(row.device_id, f"device {row.device_id}")
        try:
            differences += [Difference(uuid, row.start_ms, what) for what in _of_chunk(row)]
        except chunks.ChunkCorrupt as error:
            differences.append(Difference(uuid, row.start_ms, f"the chunk is corrupt: {error}"))
            unread.append(unreadable.of_chunk(found.pk, uuid, row.start_ms, error))
    # What it said of a device in the hour in which that left may stand under the host that has it now.
    moved = Chunk.objects.filter(device__in=held.moved, start_ms__gt=since_ms - HOUR_MS, start_ms__lt=until_ms)
    hours |= set(moved.values_list("start_ms", flat=True)) if held.moved else set()
    batches = StoredBatch.objects.filter(host=found, start_ms__gte=since_ms, start_ms__lt=until_ms)
    for batch in batches.iterator(chunk_size=200):
        hours.add(batch.start_ms // HOUR_MS * HOUR_MS)
        if stored_batches.read(batch) is None:
            unread.append(unreadable.of_batch(batch))
    lost = {unreadable.key(row): row for row in (*unread, *unreadable.touching([found.pk], since_ms, until_ms))}
    differences += [
        Difference(found.name, row.start_ms, f"{row.what} cannot be read") for row in lost.values() if not row.uuid
    ]
    hours |= _hours_of_minutes(found, since_ms, until_ms)
    differences += corrupt_rows(Rollup.objects.filter(host=found), found.name, since_ms, until_ms)
    n_buckets, short_ms = 0, shortened.samples_before_ms()
    for hour_ms in sorted(hours):
        is_short = found.origin != Origin.IMPORTED and hour_ms - _REACH_MS < short_ms
        if not is_short and not _is_retired(found, hour_ms, settings.STEPWATT_RETENTION_RAW, now):
            n_buckets += _compare(differences, found, uuids, 60, hour_ms)
    for step, below in _BELOW.items():
        for start_ms in _starts(found, step, since_ms, until_ms):
            if not _is_retired(found, start_ms, _kept_seconds(below), now):
                n_buckets += _compare(differences, found, uuids, step, start_ms)
    return Checked(n_chunks, n_buckets, differences, unread)


def _of_chunk(row: Chunk) -> Iterator[str]:
    """Yield what is wrong with the chunk. Raises ChunkCorrupt."""
    hour = chunks.decode(bytes(row.body))
    outside = (hour.times_ms < row.start_ms) | (hour.times_ms >= row.start_ms + HOUR_MS)
    if outside.any():
        yield f"the chunk has {np.count_nonzero(outside)} samples outside of its hour"
    if hour.times_ms.max() != row.end_ms:
        yield f"the chunk ends at {hour.times_ms.max()} ms, its row says {row.end_ms}"
    if hour.n_values != row.n_values:
        yield f"the chunk has {hour.n_values} values, its row says {row.n_values}"


def corrupt_rows(
    rows: QuerySet[Rollup] | QuerySet[GroupRollup], subject: str, since_ms: int, until_ms: int
) -> Iterator[Difference]:
    """Yield what is wrong with rows of rollups by what they say of themselves, in order of time."""
    for row in rows.filter(start_ms__lt=until_ms).order_by("start_ms").iterator(chunk_size=200):
        if row.start_ms + 1000 * row.step_seconds * row.n_buckets <= since_ms:
            continue
        what = f"a rollup of {row.step_seconds} s"
        try:
            found = statistics.decode(bytes(row.body), row.start_ms, 1000 * row.step_seconds)
        except RollupCorrupt as error:
            yield Difference(subject, row.start_ms, f"{what} is corrupt: {error}")
            continue
        if (n_buckets := found.values.shape[1]) != row.n_buckets:
            yield Difference(subject, row.start_ms, f"{what} has {n_buckets} buckets, its row says {row.n_buckets}")


def _hours_of_minutes(found: Host, since_ms: int, until_ms: int) -> set[int]:
    """Return the hours that have minutes: where their samples are lost, nothing else tells of them."""
    rows = ((at_ms, n) for step, at_ms, n in rolled.spans(Rollup, host=found.pk) if step * 1000 == MINUTE_MS)
    hours = {at for at_ms, n in rows for at in range(at_ms // HOUR_MS * HOUR_MS, at_ms + n * MINUTE_MS, HOUR_MS)}
    return {at for at in hours if since_ms <= at < until_ms}


def _starts(found: Host, step: int, since_ms: int, until_ms: int) -> Iterator[int]:
    """Yield the beginnings of the spans that have such rollups, or what they are made of; one is as long as a joined row."""
    period_ms = 1000 * rolled.PERIODS[step]
    rows = rolled.spans(Rollup, host=found.pk)
    starts = {start_ms // period_ms * period_ms for of_step, start_ms, _ in rows if of_step in {step, _BELOW[step]}}
    yield from sorted(at for at in starts if since_ms - period_ms < at < until_ms)


def _is_retired(found: Host, at_ms: int, kept_seconds: int, now: datetime) -> bool:
    """Tell whether something that the buckets were made of may be gone by age."""
    return found.origin != Origin.IMPORTED and at_ms - _REACH_MS < 1000 * (now.timestamp() - kept_seconds)


def _kept_seconds(step: int) -> int:
    return int({60: settings.STEPWATT_RETENTION_1M, 900: settings.STEPWATT_RETENTION_15M}[step])


def _compare(differences: list[Difference], found: Host, uuids: Mapping[int, str], step: int, start_ms: int) -> int:
    """Add what differs between the buckets and what they are made of; returns how many were compared."""
    n_compared, wrong = 0, list[Difference]()
    for _ in range(LOOKS):
        n_compared, wrong = _look(found, uuids, step, start_ms)
        if not wrong:
            break
    differences += wrong
    return n_compared


def _look(found: Host, uuids: Mapping[int, str], step: int, start_ms: int) -> tuple[int, list[Difference]]:
    end_ms = start_ms + (HOUR_MS if step == MINUTE_MS // 1000 else 1000 * rolled.PERIODS[step])
    marked = _marked(found, step, start_ms, end_ms)
    made = _of_table(rolled.of_hosts([found.pk], step, start_ms, end_ms).get(found.pk))
    expected, short = _expected(found, step, start_ms, end_ms)
    marked |= _marked(found, step, start_ms, end_ms)
    wrong: list[Difference] = []
    for at_ms in sorted((expected.keys() | made.keys()) - marked):
        one, other = (_without(short, values) for values in _alike(expected.get(at_ms), made.get(at_ms)))
        if one != other:
            wrong += _differing(found, uuids, step, at_ms, one, other)
    return len(expected), wrong


def _alike(expected: Values | None, made: Values | None) -> tuple[Values | None, Values | None]:
    """Return both without what the one that stands does not tell at all, since it was made before that was kept."""
    if not expected or not made or any(key[1] == Field.GREW_MILLISECONDS for key in made):
        return expected, made
    return {key: value for key, value in expected.items() if key[1] != Field.GREW_MILLISECONDS}, made


def _without(devices: Collection[int], values: Values | None) -> Values | None:
    return {key: value for key, value in values.items() if key[3] not in devices} if devices and values else values


def _marked(found: Host, step: int, start_ms: int, end_ms: int) -> set[int]:
    """Return the buckets that are to be made again, or from which others are."""
    steps = [each for each in rolled.STEPS if each <= step]
    reach_ms = idle_quarters.LOOK_BACK_MS if step > steps[0] else 0  # of the minutes that quarters look back at
    rows = DirtyRollup.objects.filter(
        host=found, step_seconds__in=steps, start_ms__gte=start_ms - reach_ms, start_ms__lt=end_ms
    )
    starts = list(rows.values_list("start_ms", flat=True))
    return {(at_ms + reach) // (1000 * step) * 1000 * step for at_ms in starts for reach in (0, reach_ms)}


def _expected(found: Host, step: int, start_ms: int, end_ms: int) -> tuple[dict[int, Values], set[int]]:
    """Return by bucket what its values must be, made anew, and of which devices that knows less: samples cannot be read."""
    n = (end_ms - start_ms) // (1000 * step)
    if step == idle_quarters.STEP:
        return _quarters(found, start_ms, end_ms), set()
    if step in _BELOW:
        below = rolled.of_hosts([found.pk], _BELOW[step], start_ms, end_ms).get(found.pk)
        return {} if below is None else _of_statistics(rolled.regrouped(below, start_ms, 1000 * step, n)), set()
    span = Span(start_ms, n)
    held = inputs.held([found.pk], span)
    read = inputs.read(held, span, _REACH_MS, are_imported=found.origin == Origin.IMPORTED)[found.pk]
    made = inputs.statistics_of(found.pk, read, held[found.pk], span)
    noted = unreadable.touching([found.pk], start_ms - _REACH_MS, end_ms + _REACH_MS)
    read.unread += [row for row in noted if not row.uuid]
    return {} if made is None else _of_statistics(made), read.short(held[found.pk].ids)


def _quarters(found: Host, start_ms: int, end_ms: int) -> dict[int, Values]:
    """Return each quarter of an hour made of its minutes, and of those before it that an idle stretch may have begun in."""
    look_back_ms, step_ms = idle_quarters.LOOK_BACK_MS, 1000 * idle_quarters.STEP
    minutes = rolled.of_hosts([found.pk], 60, start_ms - look_back_ms, end_ms).get(found.pk)
    made: dict[int, Values] = {}
    if minutes is None:
        return made
    for at_ms in range(start_ms, end_ms, step_ms):
        own, earlier = minutes.between(at_ms, at_ms + step_ms), minutes.between(at_ms - look_back_ms, at_ms)
        if own.starts_ms.size:
            quarter = rolled.regrouped(own, at_ms, step_ms, 1)
            before = earlier if earlier.starts_ms.size else None
            made |= _of_statistics(idle_quarters.with_idle(quarter, own, before))
    return made


def _of_table(table: Table | None) -> dict[int, Values]:
    return {} if table is None else by_bucket(table.keys, table.starts_ms, table.values)


def _of_statistics(found: Statistics) -> dict[int, Values]:
    return by_bucket(found.keys, found.starts_ms, found.values)


def by_bucket(keys: statistics.Keys, starts_ms: Whole, values: Whole) -> dict[int, Values]:
    """Return what is not 0 of each bucket; one in which all is 0 is left out."""
    columns = zip(starts_ms.tolist(), values.T, strict=True)
    return {at_ms: found for at_ms, column in columns if (found := _values(keys, column))}


def _values(keys: statistics.Keys, column: Whole) -> Values:
    """Return what is not 0 by (metric, field, argument, device): where nothing was counted, all of a series is 0."""
    rows = np.flatnonzero(column)
    return dict(zip(map(tuple, keys.table[rows].tolist()), column[rows].tolist(), strict=True))


def _differing(
    found: Host, uuids: Mapping[int, str], step: int, at_ms: int, expected: Values | None, made: Values | None
) -> Iterator[Difference]:
    """Yield the first thing of each device that differs."""
    told = set()
    one, other = expected or {}, made or {}
    for key in sorted(one.keys() | other.keys()):
        device = key[3]
        if one.get(key, 0) != other.get(key, 0) and device not in told:
            told.add(device)
            subject = uuids.get(device, f"{found.name}, device {device}")
            yield Difference(subject, at_ms, words(key, step, other.get(key, 0), one.get(key, 0), is_there=bool(made)))


def words(key: Key, step: int, is_now: int, should_be: int, *, is_there: bool) -> str:
    """Return what is wrong with one value of a rollup."""
    number, field, *_ = key
    name = "energy" if number == ENERGY else catalog.BY_NUMBER[number].name
    what = f"{Field(field).name.lower()} of {name} over {step} s is {is_now}, should be {should_be}"
    return what if is_there else f"{what} (there is no rollup)"
