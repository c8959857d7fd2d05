"""Which hours of hosts are made, and can be read instead of what they are made of. Asked by the readers of energy and waste."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db.models import BigIntegerField, F, Max
from django.db.models.functions import Cast

from telemetry.models import DirtyRollup, Rollup

HOUR_MS = 3_600_000
_HOSTS = 500  # in one query


class Part(NamedTuple):
    """A part of a span: whole hours that are made, or what is to be read from finer buckets."""

    begin_ms: int
    end_ms: int
    is_made: bool


def parts(host_ids: Sequence[int], start_ms: int, end_ms: int) -> Iterator[tuple[list[int], list[Part]]]:
    """Yield the hosts, those together that are alike, with the parts of the span in order of time.

    An hour that is marked is read from finer buckets of its own host alone: one host that catches up costs the others nothing.
    """
    first, last = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    last = min(last, _made_to(host_ids, last)) if first < last else first
    if first >= last:
        yield list(host_ids), [Part(start_ms, end_ms, is_made=False)]
        return
    alike: dict[frozenset[int], list[int]] = {}
    marked = _marked(first, last)
    for host in host_ids:
        alike.setdefault(frozenset(marked.get(host, ())), []).append(host)
    before, after = Part(start_ms, first, is_made=False), Part(last, end_ms, is_made=False)
    for hours, hosts in alike.items():
        yield hosts, list(_joined([before, *_hours(first, last, hours), after]))


def _made_to(host_ids: Sequence[int], last_ms: int) -> int:
    """Return where the newest hour ends that begins before the time, of any of the hosts; 0 where there is none."""
    found = [0]
    for at in range(0, len(host_ids), _HOSTS):
        # By host: every key of the table begins with it, and without it all rows of all resolutions are looked through.
        rows = Rollup.objects.filter(host__in=host_ids[at : at + _HOSTS], step_seconds=3600, start_ms__lt=last_ms)
        found.append(
            rows.aggregate(end=Max(F("start_ms") + Cast("n_buckets", BigIntegerField()) * HOUR_MS))["end"] or 0
        )
    return max(found)


def _marked(first_ms: int, last_ms: int) -> dict[int, set[int]]:
    """Return the hours by host in which a quarter of an hour, or the hour, is to be made again."""
    found: dict[int, set[int]] = {}
    rows = DirtyRollup.objects.filter(step_seconds__gt=60, start_ms__gte=first_ms, start_ms__lt=last_ms)
    for host, at in rows.order_by().values_list("host_id", "start_ms"):
        found.setdefault(host, set()).add(at // HOUR_MS * HOUR_MS)
    return found


def _hours(first_ms: int, last_ms: int, marked: frozenset[int]) -> Iterator[Part]:
    at = first_ms
    for hour in sorted(marked):
        yield Part(at, hour, is_made=True)
        yield Part(hour, hour + HOUR_MS, is_made=False)
        at = hour + HOUR_MS
    yield Part(at, last_ms, is_made=True)


def _joined(found: Sequence[Part]) -> Iterator[Part]:
    """Yield the parts without empty ones, neighbours of one kind as one."""
    before: Part | None = None
    for each in found:
        if each.begin_ms >= each.end_ms:
            continue
        if before and before.is_made == each.is_made:
            before = before._replace(end_ms=each.end_ms)
            continue
        if before:
            yield before
        before = each
    if before:
        yield before
