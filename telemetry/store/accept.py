"""Accepting batches: each is stored once, as it came, and the newest readings of its host with it. Called by the ingest.

A group of batches is one short transaction. It may be repeated, split and mixed with others: a batch is accepted once,
whatever comes again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

import orjson
from django.db import transaction

from fleet.models import Host
from telemetry import vendor_sql
from telemetry.decoding import received
from telemetry.message.wire import Batch
from telemetry.models import AcceptedSequences, SetAside, StoredBatch
from telemetry.store import bucketing, bulk, latest_rows, sequences
from telemetry.store.arrival import Arrival, Fate
from telemetry.vendor_sql import BatchRow

_NUMBER_TAKEN = "its number was used by another batch of this host"


@dataclass(slots=True)
class Numbers:
    """A row of AcceptedSequences on its way."""

    host_id: int
    epoch: str
    ranges: sequences.Ranges = field(default_factory=list)
    newest_sequence: int = -1
    newest_sent_ms: int = 0
    newest_received_ms: int = 0


_NUMBERS = tuple(each.name for each in fields(Numbers))
Known = dict[tuple[int, str], Numbers]


@transaction.atomic
def accept(arrivals: Sequence[Arrival], now: datetime) -> None:
    """Store what was not accepted before, and fill in what became of each."""
    # Locked in one order: of two workers with batches of one host, also of a new one, the second waits.
    hosts = Host.objects.select_for_update(no_key=True).filter(pk__in={each.host.pk for each in arrivals})
    present = set(hosts.order_by("pk").values_list("pk", flat=True))
    known = _known(arrivals)
    earlier = frozenset(known)
    for arrival in arrivals:
        arrival.fate = _take_number(arrival, known, now) if arrival.host.pk in present else Fate.HOST_GONE
    _keep_numbers(known.values(), now)
    _find_other_content(arrivals)
    stored = [arrival for arrival in arrivals if arrival.fate is Fate.STORED]
    _keep_bodies(stored)
    _set_aside([arrival for arrival in arrivals if arrival.fate in {Fate.SET_ASIDE, Fate.NUMBER_TAKEN}], now)
    latest_rows.take(stored, earlier, now)
    vendor_sql.mark_rollups_dirty(
        mark for each in stored for mark in _minutes(each.host.pk, each.batch, is_late=each.is_late)
    )


@transaction.atomic
def take_back(host: Host, arrivals: Mapping[int, Arrival], now: datetime) -> list[Arrival]:
    """Store batches of one host that are set aside, by SetAside id, and return those that still were.

    Their numbers were taken when they came. The host counts as heard then, not now.
    """
    Host.objects.select_for_update(no_key=True).get(pk=host.pk)
    came = dict(SetAside.objects.filter(pk__in=arrivals, host=host).values_list("pk", "received_at"))
    taken = sorted((arrivals[pk] for pk in came), key=lambda each: (each.batch.times_ms[0], each.batch.sequence))
    if not taken:
        return []
    SetAside.objects.filter(pk__in=came).delete()
    for arrival in taken:
        arrival.fate = Fate.STORED
    _keep_bodies(taken)
    heard_at = Host.objects.values_list("heard_at", flat=True).get(pk=host.pk)
    latest_rows.take(taken, frozenset(_known(taken)), now, heard_at=max([*came.values(), *filter(None, [heard_at])]))
    vendor_sql.mark_rollups_dirty(
        mark for each in taken for mark in _minutes(host.pk, each.batch, is_late=each.is_late)
    )
    return taken


def mark_dirty(host: Host, first_ms: int, last_ms: int, slowest_ms: int) -> None:
    """Have the minutes of these samples rolled up (again), and what they reach of others: these are so far apart at most."""
    starts = bucketing.minutes_changed(first_ms, last_ms, slowest_ms, is_late=True)
    vendor_sql.mark_rollups_dirty((host.pk, 60, start_ms) for start_ms in starts)


def _known(arrivals: Sequence[Arrival]) -> Known:
    lives = {each.life for each in arrivals}
    rows = AcceptedSequences.objects.filter(
        host__in={host for host, _ in lives}, epoch__in={epoch for _, epoch in lives}
    )
    found = (Numbers(*row) for row in rows.values_list(*_NUMBERS))
    return {(row.host_id, row.epoch): row for row in found if (row.host_id, row.epoch) in lives}


def _take_number(arrival: Arrival, known: Known, now: datetime) -> Fate:
    """Note the batch's number. One that comes again is noted too: the acknowledgement that it missed is sent once more."""
    batch, host_id = arrival.batch, arrival.host.pk
    row = known.get(arrival.life) or known.setdefault(arrival.life, Numbers(host_id, batch.epoch))
    if sequences.contains(row.ranges, batch.sequence):
        return Fate.KNOWN
    sequences.add(row.ranges, batch.sequence)
    if batch.sequence > row.newest_sequence:
        row.newest_sequence, row.newest_sent_ms = batch.sequence, batch.sent_ms
        row.newest_received_ms = round(now.timestamp() * 1000)
    return Fate.SET_ASIDE if arrival.aside else Fate.STORED


def _keep_numbers(rows: Iterable[Numbers], now: datetime) -> None:
    changed_at = bulk.as_stored(now)
    values = [
        (
            row.host_id, row.epoch, orjson.dumps(row.ranges).decode(), row.newest_sequence, row.newest_sent_ms,
            row.newest_received_ms, changed_at,
        )
        for row in rows
    ]  # fmt: skip
    bulk.upsert("telemetry_acceptedsequences", _NUMBERS[:2], (*_NUMBERS[2:], "changed_at"), values)


def _find_other_content(arrivals: Sequence[Arrival]) -> None:
    """Find the batches whose number another one has: two machines send with one key, or a spool was restored from a copy.

    Where the batch before was compacted they cannot be compared: there a number that comes again is that batch.
    """
    again = [arrival for arrival in arrivals if arrival.fate is Fate.KNOWN]
    if not again:
        return
    kept: dict[tuple[int, str, int], list[bytes]] = {}
    for each in arrivals:
        if each.fate in {Fate.STORED, Fate.SET_ASIDE}:
            kept[*each.life, each.batch.sequence] = [each.body]
    wanted = {
        "host__in": {each.host.pk for each in again},
        "epoch__in": {each.batch.epoch for each in again},
        "sequence__in": {each.batch.sequence for each in again},
    }
    for model in (StoredBatch, SetAside):
        rows = model.objects.filter(**wanted).values_list("host_id", "epoch", "sequence", "body")
        for host, epoch, sequence, body in rows:
            kept.setdefault((host, epoch, sequence), []).append(bytes(body))
    for arrival in again:
        before = kept.get((*arrival.life, arrival.batch.sequence), [arrival.body])
        if not any(received.is_same(body, arrival.body) for body in before):
            arrival.fate = Fate.NUMBER_TAKEN


def _keep_bodies(stored: Sequence[Arrival]) -> None:
    vendor_sql.insert_batches(
        [
            BatchRow(
                each.host.pk, each.batch.times_ms[0], each.batch.epoch, each.batch.sequence, each.batch.times_ms[-1],
                each.body,
            )
            for each in stored
        ]
    )  # fmt: skip


def _set_aside(arrivals: Sequence[Arrival], now: datetime) -> None:
    rows = [
        SetAside(
            host_id=each.host.pk, epoch=each.batch.epoch, sequence=each.batch.sequence, body=each.body,
            start_ms=each.batch.times_ms[0], end_ms=each.batch.times_ms[-1], received_at=now,
            digest=SetAside.digest_of(each.body), n_values=each.last.n_values,
            reason=_NUMBER_TAKEN if each.fate is Fate.NUMBER_TAKEN else each.aside,
        )
        for each in arrivals
    ]  # fmt: skip
    if rows:
        SetAside.objects.bulk_create(rows, ignore_conflicts=True)  # the same one may come any number of times


def _minutes(host_id: int, batch: Batch, *, is_late: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (host, step, start) of the minutes that the batch changes."""
    interval_ms = round(batch.sample_seconds * 1000)
    for start_ms in bucketing.minutes_changed(batch.times_ms[0], batch.times_ms[-1], interval_ms, is_late=is_late):
        yield host_id, 60, start_ms
