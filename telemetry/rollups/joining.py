"""Fresh rows of one bucket → one row for a period, small and quick to read: of hosts and of groups.

Every row that goes is in the one that comes, in one transaction; a bucket that is made again later stands beside it, fresh,
and is joined by a later run.
"""

import time
from collections.abc import Iterator

import numpy as np
from django.db import transaction

from fleet.turns import Turns
from telemetry.models import GroupRollup, Rollup
from telemetry.store import rolled, statistics
from telemetry.store.rolled import GROUP_PERIODS, PERIODS, Table
from telemetry.store.statistics import RollupCorrupt, Statistics

_SETTLED_MS = 600_000  # after the end of a period
_EARLY = 24  # so many fresh rows are joined though their period goes on: six hours of quarters, a day of hours
_LONG = 2 * 3600  # periods of which that holds, in seconds

_Model = type[Rollup] | type[GroupRollup]


def join(now_ms: int, deadline: float) -> int:
    """Join the fresh rows of periods that are over; returns how many rows went into others."""
    turns = Turns[str]("joining the rollups of")
    for model, owner in ((Rollup, "host"), (GroupRollup, "group")):
        owners = list(model.objects.order_by().values_list(f"{owner}_id", flat=True).distinct())
        for pk in owners:
            if time.monotonic() > deadline:
                break
            with turns.of(f"{owner} {pk}"):
                turns.done += _join_all(model, owner, pk, now_ms, deadline)
    return turns.end()


def _join_all(model: _Model, owner: str, pk: int, now_ms: int, deadline: float) -> int:
    done = 0
    for step_seconds, start_ms, period_ms in _periods(model, owner, pk, now_ms):
        if time.monotonic() > deadline:
            break
        done += _join(model, owner, pk, step_seconds, (start_ms, start_ms + period_ms))
    return done


def _periods(model: _Model, owner: str, pk: int, now_ms: int) -> Iterator[tuple[int, int, int]]:
    """Yield (step_seconds, start_ms, length in ms) of the periods in which fresh rows are to be joined."""
    for step_seconds, seconds in (PERIODS if model is Rollup else GROUP_PERIODS).items():
        period_ms = 1000 * seconds
        rows = model.objects.filter(**{owner: pk}, step_seconds=step_seconds, n_buckets=1)
        starts = np.array(list(rows.values_list("start_ms", flat=True)), np.int64)
        periods, counts = np.unique(starts // period_ms * period_ms, return_counts=True)
        for start_ms, n_fresh in zip(periods.tolist(), counts.tolist(), strict=True):
            is_over = start_ms + period_ms + _SETTLED_MS <= now_ms
            if is_over or (seconds >= _LONG and n_fresh >= _EARLY):
                yield step_seconds, start_ms, period_ms


def _join(model: _Model, owner: str, pk: int, step_seconds: int, between_ms: tuple[int, int]) -> int:
    rows = model.objects.filter(
        **{owner: pk}, step_seconds=step_seconds, start_ms__gte=between_ms[0], start_ms__lt=between_ms[1]
    )  # fmt: skip
    columns = ("start_ms", "n_buckets", "body")
    read = {(at, n): bytes(body) for at, n, body in rows.values_list(*columns)}
    if not read:
        return 0  # they were retired, or their host removed, since they were counted
    try:
        table = rolled.stacked([statistics.decode(body, at, 1000 * step_seconds) for (at, _), body in read.items()])
    except RollupCorrupt:
        return 0  # verify_store tells; what can be read stays as it is
    made = _side_by_side(table)
    if made.values.shape[1] == 1:
        return 0
    body = statistics.encode_joined(made)
    with transaction.atomic():
        now = rows.select_for_update().values_list(*columns)
        if {(at, n): bytes(body) for at, n, body in now if (at, n) in read} != read:
            return 0  # some bucket was made again meanwhile
        for at, n in read:
            rows.filter(start_ms=at, n_buckets=n).delete()
        model.objects.create(
            **{f"{owner}_id": pk}, step_seconds=step_seconds, start_ms=made.start_ms, n_buckets=made.values.shape[1], body=body
        )  # fmt: skip
    return len(read)


def _side_by_side(table: Table) -> Statistics:
    """Return the buckets from the first to the last; those between that are not there are empty."""
    first_ms = int(table.starts_ms[0])
    at = (table.starts_ms - first_ms) // table.step_ms
    values = np.zeros((table.values.shape[0], int(at[-1]) + 1), np.int64)
    values[:, at] = table.values
    return Statistics(table.keys, first_ms, table.step_ms, values)
