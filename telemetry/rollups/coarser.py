"""Quarters of an hour from minutes, hours from quarters: of hosts. A bucket is made of all that lies below it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from django.conf import settings
from django.db import transaction

from fleet.models import Host, Origin
from fleet.turns import Turns
from telemetry import vendor_sql
from telemetry.rollups.minutes import cascade
from telemetry.store import idle_quarters, marks, rolled, statistics
from telemetry.store.marks import Mark
from telemetry.vendor_sql import RollupRow

BELOW = {900: 60, 3600: 900}
_SETTLED_MS = {900: 90_000, 3600: 150_000}  # after the buckets below are made
_MARKS = 400
_HOSTS = 20


def roll_up(step_seconds: int, now_ms: int, deadline: float) -> int:
    """Make the marked buckets that are over; returns how many."""
    before_ms = now_ms - 1000 * step_seconds - _SETTLED_MS[step_seconds]
    turns = Turns[int](f"making the buckets of {step_seconds} s of host")
    while time.monotonic() < deadline:
        due = marks.due_of_hosts(step_seconds, before_ms, _MARKS, turns.failed)
        for start_ms, hosts in _parts(due):
            turns.of_many(hosts, partial(_make, step_seconds, start_ms, now_ms))
            if time.monotonic() > deadline:
                break
        if len(due) < _MARKS:
            break
    return turns.end()


def _parts(due: Iterable[Mark]) -> Iterator[tuple[int, dict[int, Mark]]]:
    """Yield what is made in one transaction: of one time, some hosts' marks."""
    by_time: dict[int, list[Mark]] = {}
    for mark in due:
        by_time.setdefault(mark.start_ms, []).append(mark)
    for start_ms, of_time in by_time.items():
        for at in range(0, len(of_time), _HOSTS):
            yield start_ms, {mark.owner: mark for mark in of_time[at : at + _HOSTS]}


def _make(step_seconds: int, start_ms: int, now_ms: int, due: Mapping[int, Mark]) -> int:
    step_ms, below, short = 1000 * step_seconds, BELOW[step_seconds], set[int]()
    tables = rolled.of_hosts(due, below, start_ms, start_ms + step_ms, unread=short)
    has_idle = step_seconds == idle_quarters.STEP
    before, reach_ms = (idle_quarters.before(tables, start_ms), idle_quarters.LOOK_BACK_MS) if has_idle else ({}, 0)
    rows, devices = [], {}
    for host, table in tables.items():
        made = rolled.regrouped(table, start_ms, step_ms, 1)
        if has_idle:
            made = idle_quarters.with_idle(made, table, before.get(host))
        devices[host] = set(made.keys.owners.tolist())
        rows.append(RollupRow(host, step_seconds, start_ms, 1, statistics.encode_fresh(made)))
    if start_ms - reach_ms < now_ms - 1000 * _kept_seconds(below):
        imported = Host.objects.filter(pk__in=tables, origin=Origin.IMPORTED).order_by().values_list("pk", flat=True)
        short |= tables.keys() - set(imported)  # of what is below, some may be gone; theirs is kept for ever
    if short:
        there = rolled.of_hosts(short, step_seconds, start_ms, start_ms + step_ms, ())
        rows = [row for row in rows if row.host_id not in there]
    with transaction.atomic():
        # Whoever has made a bucket below meanwhile has set the mark again, under another id: it stays, and this is too old.
        taken = marks.take_of_hosts([mark.pk for mark in due.values()])
        good = {host for host, mark in due.items() if mark.pk in taken}
        rows = [row for row in rows if row.host_id in good]
        vendor_sql.insert_rollups(rows)
        cascade(step_seconds, rows, devices, now_ms)
    return len(due)


def _kept_seconds(step_seconds: int) -> int:
    return int({60: settings.STEPWATT_RETENTION_1M, 900: settings.STEPWATT_RETENTION_15M}[step_seconds])
