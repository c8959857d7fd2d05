"""Minutes of hosts, from their samples.

Everything slow is done before the transaction, which then looks whether it still holds.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import numpy as np
from django.conf import settings
from django.db import transaction

from fleet.models import Host, Origin
from fleet.turns import Turns
from telemetry import vendor_sql
from telemetry.models import Unreadable
from telemetry.rollups import kept
from telemetry.store import groups, idle_quarters, inputs, marks, rolled, shortened, statistics, unreadable
from telemetry.store.inputs import MINUTE_MS, Span
from telemetry.store.marks import Mark
from telemetry.store.statistics import Statistics
from telemetry.vendor_sql import RollupRow

STEP = 60
_SETTLED_MS = 15_000  # a minute is made when it is over for so long: the batch that it ends in has come by then
_MARKS = 500  # in one look
_HOSTS = 20  # in one transaction
_MINUTES = 15  # of one host in one read
_LEFT_MS = 86_400_000  # of samples the disk limit leaves a day, whatever it says (disk_limit.py)


class _Made(NamedTuple):
    host: int
    pks: list[int]
    starts_ms: list[int]
    seen: set[tuple[object, ...]]
    found: Statistics | None
    unread: list[Unreadable]
    short: set[int]  # devices of which something in `unread` is, or was: what was made before may know more


def roll_up(now_ms: int, deadline: float) -> int:
    """Make the minutes that are marked and over, the newest first; returns how many."""
    before_ms, turns = now_ms - MINUTE_MS - _SETTLED_MS, Turns[int]("making the minutes of host")
    while time.monotonic() < deadline:
        due = marks.due_of_hosts(STEP, before_ms, _MARKS, turns.failed)
        for span, hosts in _parts(due):
            turns.of_many(hosts, partial(_make, span, now_ms))
            if time.monotonic() > deadline:
                break
        if len(due) < _MARKS:
            break
    return turns.end()


def _spans(due: Iterable[Mark]) -> Sequence[tuple[Span, dict[int, list[Mark]]]]:
    """Return the marks by span and host: minutes of one host that lie side by side are read together."""
    by_host: dict[int, list[Mark]] = {}
    for mark in due:
        by_host.setdefault(mark.owner, []).append(mark)
    spans: dict[Span, dict[int, list[Mark]]] = {}
    for host, of_host in by_host.items():
        run: list[Mark] = []
        for mark in sorted(of_host, key=lambda mark: mark.start_ms):
            if run and (mark.start_ms != run[-1].start_ms + MINUTE_MS or len(run) == _MINUTES):
                spans.setdefault(Span(run[0].start_ms, len(run)), {})[host] = run
                run = []
            run.append(mark)
        spans.setdefault(Span(run[0].start_ms, len(run)), {})[host] = run
    return list(spans.items())


def _parts(due: Iterable[Mark]) -> Iterable[tuple[Span, dict[int, list[Mark]]]]:
    """Yield what is made in one transaction."""
    for span, hosts in _spans(due):
        every = sorted(hosts.items())
        yield from ((span, dict(every[at : at + _HOSTS])) for at in range(0, len(every), _HOSTS))


def _make(span: Span, now_ms: int, hosts: Mapping[int, list[Mark]]) -> int:
    imported = set(Host.objects.filter(pk__in=hosts, origin=Origin.IMPORTED).order_by().values_list("pk", flat=True))
    held = inputs.held(hosts, span)
    made, gone = [], _unreadable_batches(hosts, span)
    for is_imported in (True, False):
        of_kind = {host: each for host, each in held.items() if (host in imported) is is_imported}
        for host, found in (
            inputs.read(of_kind, span, inputs.REACH_MS, are_imported=is_imported) if of_kind else {}
        ).items():
            found.unread += gone.get(host, [])
            result, mine = inputs.statistics_of(host, found, held[host], span), hosts[host]
            pks, starts = [mark.pk for mark in mine], [mark.start_ms for mark in mine]
            made.append(_Made(host, pks, starts, found.seen, result, found.unread, found.short(held[host].ids)))
    is_old = _is_old(span, now_ms)
    stand = {each.host: _as_they_stand(each, is_old=is_old and each.host not in imported) for each in made}
    written = {host: _rows(host, minutes) for host, minutes in stand.items()}
    devices = {
        host: {pk for each in minutes.values() for pk in each.keys.owners.tolist()} for host, minutes in stand.items()
    }
    unreadable.note((row for each in made for row in each.unread), datetime.now(UTC))
    with transaction.atomic():
        # First, and so either whoever stores a batch waits for this, or this waits for him and then sees what he stored.
        taken = marks.take_of_hosts([pk for each in made for pk in each.pks])
        changed = _changed(span, made, held, imported)
        good = [each for each in made if each.host not in changed and taken.issuperset(each.pks)]
        again = {each.host for each in made} - {each.host for each in good}
        marks.renew_hosts((each.host, STEP, at) for each in made if each.host in again for at in each.starts_ms)
        rows = [row for each in good for row in written[each.host]]
        vendor_sql.insert_rollups(rows)
        cascade(STEP, rows, devices, now_ms)
    return sum(len(each.starts_ms) for each in good)


def _unreadable_batches(hosts: Collection[int], span: Span) -> dict[int, list[Unreadable]]:
    """Return by host the batches near the span that could not be read: the compaction has set them aside since, it may be."""
    found: dict[int, list[Unreadable]] = {}
    for row in unreadable.touching(hosts, span.first_ms - inputs.REACH_MS, span.end_ms + inputs.REACH_MS):
        if not row.uuid:
            found.setdefault(row.host_id, []).append(row)
    return found


def _changed(span: Span, made: Sequence[_Made], held: inputs.Held, imported: set[int]) -> set[int]:
    """Return the hosts of which more has come, or less is left, since it was read."""
    before = {each.host: each.seen for each in made}
    real = {host: each for host, each in held.items() if host not in imported}
    now: dict[int, set[tuple[object, ...]]] = dict(inputs.seen_now(real, span, inputs.REACH_MS)) if real else {}
    if imported:
        found = inputs.read({host: held[host] for host in imported}, span, inputs.REACH_MS, are_imported=True)
        now |= {host: each.seen for host, each in found.items()}
    return {host for host, seen in before.items() if now[host] != seen}


def _is_old(span: Span, now_ms: int) -> bool:
    """Tell whether samples of the span may have been retired: by age, or by the disk limit."""
    begins_ms = span.first_ms - inputs.REACH_MS
    if begins_ms >= now_ms - min(_LEFT_MS, 1000 * settings.STEPWATT_RETENTION_RAW):
        return False
    return begins_ms < max(now_ms - 1000 * settings.STEPWATT_RETENTION_RAW, shortened.samples_before_ms())


def _as_they_stand(made: _Made, *, is_old: bool) -> dict[int, Statistics]:
    """Return the minutes as they are to stand, by their beginnings, as far as what stands does not know more.

    Where samples may be retired (`is_old`) it is left as it is; where some cannot be read it is kept of each device of which
    it has more samples. Of what stands where there is nothing any more, nothing is left.
    """
    found = {} if made.found is None else {each.start_ms: each for each in inputs.single_minutes(made.found)}
    if not is_old and not made.short and found.keys() >= set(made.starts_ms):
        return found
    first_ms, wanted = made.starts_ms[0], () if is_old else None
    end_ms = first_ms + len(made.starts_ms) * MINUTE_MS
    stands = rolled.of_hosts([made.host], STEP, first_ms, end_ms, wanted).get(made.host)
    if stands is None:
        return found
    for at in stands.starts_ms.tolist():
        before = stands.between(at, at + MINUTE_MS)
        if is_old:
            found.pop(at, None)
        elif at not in found and not made.short:
            found[at] = Statistics(before.keys, at, MINUTE_MS, np.zeros_like(before.values))
        elif at in found and made.short:
            found[at] = kept.with_better(found[at], before, made.short)
    return found


def _rows(host: int, minutes: Mapping[int, Statistics]) -> list[RollupRow]:
    return [RollupRow(host, STEP, at, 1, statistics.encode_fresh(each)) for at, each in minutes.items()]


def cascade(step_seconds: int, rows: Sequence[RollupRow], devices: Mapping[int, set[int]], now_ms: int) -> None:
    """Mark what is made of these buckets: the next coarser ones, and those of the groups of the `devices` in them, by host.

    A quarter of an hour looks back at minutes of the one before; one that has not begun is marked by its own minutes.
    """
    made = [(row.host_id, row.start_ms) for row in rows]
    coarser = {60: 900, 900: 3600}.get(step_seconds)
    if coarser:
        step_ms = 1000 * coarser
        starts = {(host, coarser, start_ms // step_ms * step_ms) for host, start_ms in made}
        if step_seconds == STEP:
            ahead = ((host, (start_ms + idle_quarters.LOOK_BACK_MS) // step_ms * step_ms) for host, start_ms in made)
            starts |= {(host, coarser, start_ms) for host, start_ms in ahead if start_ms <= now_ms}
        marks.renew_hosts(starts)
    of_hosts = groups.concerned({host: devices[host] for host, _ in made})
    marks.renew_groups((group, step_seconds, at) for host, at in made for group in of_hosts[host])
