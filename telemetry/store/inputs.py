"""What the minutes of hosts are made of: their samples, and how to tell whether any came since they were read."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Q

from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.message import wire
from telemetry.models import Chunk, StoredBatch, Unreadable
from telemetry.store import bucketing, chunks, statistics, stays, stored_batches, unreadable
from telemetry.store.chunks import HOUR_MS
from telemetry.store.gather import Gathered, Gathering
from telemetry.store.statistics import Statistics
from telemetry.store.stays import Holding

MINUTE_MS = 60_000
_NEAR_MS = 2_500  # at 1 Hz no more than this reaches into a minute, but for counters across a silence
REACH_MS, _ = bucketing.reach(0)
_MAX_REACH_MS, _ = bucketing.reach(3_600_000)  # of the slowest sampling that there is
_COUNTERS = [metric.number for metric in catalog.METRICS if metric.kind is Kind.COUNTER]


class Span(NamedTuple):
    """`n` minutes from `first_ms` on."""

    first_ms: int
    n: int

    @property
    def end_ms(self) -> int:
        return self.first_ms + self.n * MINUTE_MS


@dataclass(slots=True)
class Inputs:
    """The rows that a host's span was made of; `seen` names them. Of imported hosts, whose windows grow, with their bodies.

    `unread` is noted by `statistics_of`: what of it cannot be read.
    """

    batches: list[StoredBatch] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    is_imported: bool = False
    unread: list[Unreadable] = field(default_factory=list)

    def short(self, ids: Mapping[str, int]) -> set[int]:
        """Return of which devices some samples could not be read: of a batch, of any of the host's in `ids`, by uuid."""
        found: set[int] = set()
        for each in self.unread:
            found.update([ids[each.uuid]] if each.uuid else ids.values())
        return found


Held = Mapping[int, Holding]
"""Which devices each of some hosts has or had, by host id."""


def held(hosts: Collection[int], span: Span) -> dict[int, Holding]:
    """Return what each host has, or had near the span."""
    return stays.of_hosts(hosts, span.first_ms - _MAX_REACH_MS, span.end_ms + _MAX_REACH_MS)


def read(held: Held, span: Span, reach_ms: int, *, are_imported: bool = False) -> dict[int, Inputs]:
    """Return the rows of each host that lie in the span or within `reach_ms` of it. Two queries.

    A chunk of a device that has moved holds what every host of its hour said of it: each of them has it.
    """
    found = {host: Inputs(is_imported=are_imported) for host in held}
    # Batches before chunks: what is compacted between the two is read twice and counted once, not missed.
    for batch in _batches(held, span, reach_ms):
        found[batch.host_id].batches.append(batch)
        found[batch.host_id].seen.add(_batch_key(batch, with_bodies=are_imported))
    moved = _hosts_of_moved(held)
    for chunk in _chunks(held, moved, span, reach_ms):
        for host in moved.get(chunk.device_id, (chunk.host_id,)):
            found[host].chunks.append(chunk)
            found[host].seen.add((chunk.device_id, chunk.start_ms, chunk.end_ms, chunk.n_values))
    return found


def seen_now(held: Held, span: Span, reach_ms: int) -> dict[int, set[tuple[Any, ...]]]:
    """Return what `seen` would be now, without bodies. Two queries, which read keys alone."""
    found: dict[int, set[tuple[Any, ...]]] = {host: set() for host in held}
    rows = _batches(held, span, reach_ms).values_list("host_id", "start_ms", "epoch", "sequence")
    for host_id, *key in rows:
        found[host_id].add(tuple(key))
    moved = _hosts_of_moved(held)
    rows = _chunks(held, moved, span, reach_ms).values_list("host_id", "device_id", "start_ms", "end_ms", "n_values")
    for host_id, device, *key in rows:
        for host in moved.get(device, (host_id,)):
            found[host].add((device, *key))
    return found


def _batches(hosts: Collection[int], span: Span, reach_ms: int) -> Any:
    start_ms, end_ms = span.first_ms - reach_ms, span.end_ms + reach_ms
    # The key begins with host and start: the longest that a batch may be bounds what is looked through.
    return StoredBatch.objects.filter(
        host__in=hosts, start_ms__gte=start_ms - wire.MAX_SPAN_MS, start_ms__lt=end_ms, end_ms__gte=start_ms
    ).order_by("host_id", "epoch", "sequence")


def _hosts_of_moved(held: Held) -> dict[int, list[int]]:
    """Return which of the hosts a device has been with, of those that have moved."""
    found: dict[int, list[int]] = {}
    for host, holding in held.items():
        for device in holding.moved:
            found.setdefault(device, []).append(host)
    return found


def _chunks(held: Held, moved: Collection[int], span: Span, reach_ms: int) -> Any:
    start_ms, end_ms = span.first_ms - reach_ms, span.end_ms + reach_ms
    whose = Q(host__in=held)
    return Chunk.objects.filter(
        whose | Q(device__in=moved) if moved else whose,
        start_ms__gt=start_ms - HOUR_MS,
        start_ms__lt=end_ms,
        end_ms__gte=start_ms,
    )


def _batch_key(batch: StoredBatch, *, with_bodies: bool) -> tuple[Any, ...]:
    key = (batch.start_ms, batch.epoch, batch.sequence)
    return (*key, bytes(batch.body)) if with_bodies else key


def statistics_of(
    host: int, inputs: Inputs, held: Holding, span: Span, numbers: Collection[int] | None = None
) -> Statistics | None:
    """Return the span's minutes, of the wanted metrics; None where no sample lies in them or reaches into them."""
    found = _gathered(inputs, held, span, numbers)
    longest_ms = round(1000 * float(found.seconds.max(initial=0)))
    reach_ms = max(bucketing.reach(longest_ms)) if found.times_ms.size else _MAX_REACH_MS
    if reach_ms > REACH_MS:
        found = _wide(host, inputs, held, span, reach_ms, numbers)
    far = _not_enclosed(found, held, span) if inputs.is_imported and reach_ms < _MAX_REACH_MS else set()
    near = held.without(far) if far else held
    parts = [(found, near.ids)]
    if far:
        apart = held.only(far)
        parts.append((_wide(host, inputs, apart, span, _MAX_REACH_MS, numbers), apart.ids))
    made = statistics.together(
        [
            bucketing.of_samples(each, of, span.first_ms, MINUTE_MS, span.n, with_energy=numbers is None)
            for each, of in parts
        ]
    )
    return made if made.values.any() else None


def _wide(
    host: int, inputs: Inputs, held: Holding, span: Span, reach_ms: int, numbers: Collection[int] | None
) -> Gathered:
    wide = read({host: held}, span, reach_ms)[host]
    found = _all(wide, held, numbers)
    inputs.unread += wide.unread
    return found


def _not_enclosed(found: Gathered, held: Holding, span: Span) -> set[str]:
    """Return the devices that have no samples on both sides of the span.

    An agent's are all read at one interval. Of a recording each has its own, and what is far away may reach into the span.
    """
    inside: set[str] = set(held.ids)
    for side in (found.times_ms < span.first_ms, found.times_ms >= span.end_ms):
        there = np.flatnonzero(found.present[:, side].any(axis=1)).tolist()
        inside &= {found.series[row][0] for row in there}
    return held.ids.keys() - inside


def _gathered(inputs: Inputs, held: Holding, span: Span, numbers: Collection[int] | None) -> Gathered:
    """Return the samples near the span where that is enough, else all: most batches of the reach are read for nothing."""
    if inputs.chunks:
        return _all(inputs, held, numbers)
    near = [
        row for row in inputs.batches
        if row.end_ms >= span.first_ms - _NEAR_MS and row.start_ms < span.end_ms + _NEAR_MS
    ]  # fmt: skip
    some = Inputs(batches=near)
    found = _all(some, held, numbers)
    if len(near) < len(inputs.batches) and not _is_enough(found, span):
        return _all(inputs, held, numbers)
    inputs.unread += some.unread
    return found


def _is_enough(found: Gathered, span: Span) -> bool:
    if len(found.names) != 1 or found.seconds.max(initial=0) * 2500 > _NEAR_MS:
        return False
    before = np.asarray(found.present[:, found.times_ms < span.first_ms].any(axis=1))
    is_counter = np.isin(np.array([number for _, number in found.series]), _COUNTERS)
    return bool(before[is_counter].all())


def _all(inputs: Inputs, held: Holding, numbers: Collection[int] | None) -> Gathered:
    """Chunks before batches: of two that say different things of one time, the later one holds."""
    gathering = Gathering(held.ids, numbers)
    uuids = {pk: uuid for uuid, pk in held.ids.items()}
    for chunk in inputs.chunks:
        if chunk.device_id not in uuids:
            continue
        try:
            gathering.add_hour(uuids[chunk.device_id], chunks.decode(bytes(chunk.body), numbers))
        except chunks.ChunkCorrupt as error:
            chunks.warn_corrupt(uuids[chunk.device_id], chunk.start_ms, error)
            inputs.unread.append(unreadable.of_chunk(chunk.host_id, uuids[chunk.device_id], chunk.start_ms, error))
    inputs.unread += map(unreadable.of_batch, stored_batches.add(gathering, inputs.batches))
    return gathering.gathered().of_stays(held.spans)


def single_minutes(found: Statistics) -> Iterator[Statistics]:
    """Yield each minute for itself, without what does not stand in it; one without anything is left out."""
    for at in range(found.values.shape[1]):
        one = found._replace(start_ms=found.start_ms + at * found.step_ms, values=found.values[:, [at]])
        one = bucketing.without_empty(one)
        if one.values.size:
            yield one
