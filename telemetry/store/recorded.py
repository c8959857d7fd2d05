"""Writing recorded telemetry: windows of samples that may come in any split, order and repetition. Called by the importers.

Unlike an agent's batch, a window grows: what a later file says of the same device and time joins what is there, and the
same file again changes nothing, also after the window was compacted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone
from numpy.typing import NDArray

from fleet.models import Device, Host
from telemetry import catalog
from telemetry.decoding import matrix
from telemetry.message import wire
from telemetry.message.wire import Batch
from telemetry.models import AcceptedSequences, Chunk, LatestState, StoredBatch
from telemetry.store import accept, gather, samples
from telemetry.store.chunks import HOUR_MS
from telemetry.store.gather import Gathered, Gathering

WINDOW_MS = 600_000
_LONGEST_MS = 3_600_000  # sampling interval that there is


@transaction.atomic
def keep(host: Host, window: Batch) -> bool:
    """Store one device's window, which lies within WINDOW_MS from a multiple of it on; False where it changed nothing.

    Where both have a sample of the same metric and time, the new one holds.
    """
    # The lock of this row has two imports of one recording wait for each other.
    known, _ = AcceptedSequences.objects.select_for_update().get_or_create(
        host=host, epoch=window.epoch, defaults={"changed_at": timezone.now()}
    )
    start_ms = window.times_ms[0] // WINDOW_MS * WINDOW_MS
    device = Device.objects.get(host=host, uuid=window.devices[0].uuid)
    before = samples.within(device, start_ms, start_ms + WINDOW_MS)
    after = _with(before, window)
    if _is_same(before, after):
        return False
    joined = _joined(window, after)
    _store(host, _parts(joined, after.seconds), known)
    first_ms, last_ms = joined.times_ms[0], joined.times_ms[-1]
    accept.mark_dirty(host, _since_ms(device, window, first_ms), last_ms, _slowest_ms(device, before, window, last_ms))
    _update_latest(host, joined)
    newest = datetime.fromtimestamp(joined.times_ms[-1] / 1000, UTC)
    Host.objects.filter(Q(last_seen_at=None) | Q(last_seen_at__lt=newest), pk=host.pk).update(last_seen_at=newest)
    return True


def _with(before: Gathered, window: Batch) -> Gathered:
    gathering = Gathering()
    for uuid, _, hour in gather.hours(before):
        gathering.add_hour(uuid, hour)
    gathering.add_batch(window, matrix.of_columns(window.columns))
    after = gathering.gathered()
    # Each sample keeps the interval of its own recording, of several the shortest: what comes between makes no gaps.
    after.seconds[:] = np.inf
    order = np.argsort(after.times_ms, kind="stable")
    told = (before.times_ms, before.seconds), (np.array(window.times_ms, np.int64), window.sample_seconds)
    for times_ms, seconds in told:
        at = order[np.searchsorted(after.times_ms, times_ms, sorter=order)]
        after.seconds[at] = np.minimum(after.seconds[at], seconds)
    return after


def _is_same(before: Gathered, after: Gathered) -> bool:
    return before.series == after.series and all(
        np.array_equal(one, other)
        for one, other in (
            (before.times_ms, after.times_ms),
            (before.seconds, after.seconds),
            (before.present, after.present),
            (before.steps, after.steps),
        )
    )


def _joined(window: Batch, found: Gathered) -> Batch:
    """Return the window with all that is there of it."""
    columns: dict[str, list[list[float | None]]] = {}
    for (_, number), steps, present in zip(found.series, found.steps, found.present, strict=True):
        metric = catalog.BY_NUMBER[number]
        values = matrix.in_base_units(steps, metric.resolution).tolist()
        columns[metric.name] = [[value if there else None for value, there in zip(values, present, strict=True)]]
    times: list[int] = found.times_ms.tolist()
    return replace(window, times_ms=times, sent_ms=times[-1], columns=columns)


def _store(host: Host, parts: Iterable[Batch], known: AcceptedSequences) -> None:
    """Add them as batches of their own, under numbers that no other had: what a compaction has begun with stays as it is."""
    rows = []
    for sequence, part in enumerate(parts, known.newest_sequence + 1):
        batch = replace(part, sequence=sequence)
        start_ms, end_ms = batch.times_ms[0], batch.times_ms[-1]
        fields = {"epoch": batch.epoch, "sequence": sequence, "start_ms": start_ms, "end_ms": end_ms}
        rows.append(StoredBatch(host=host, body=wire.pack(batch), **fields))
        known.newest_sequence = sequence
    StoredBatch.objects.bulk_create(rows)
    known.ranges = [[0, known.newest_sequence]]
    known.changed_at = known.acknowledged_at = timezone.now()  # nobody waits to be told
    known.save()


def _slowest_ms(device: Device, before: Gathered, window: Batch, end_ms: int) -> int:
    """Return the longest sampling interval of what the window's samples reach: what was there of it, and what comes after.

    One that is there after the window may have begun its growth before it. How slow it is is not looked up: there is
    something after it only where a file comes again.
    """
    until_ms = end_ms + samples.reach_ms(_LONGEST_MS)
    later = StoredBatch.objects.filter(
        host=device.host_id, epoch=window.epoch, start_ms__gt=end_ms, start_ms__lte=until_ms
    )
    compacted = Chunk.objects.filter(
        device=device, start_ms__gt=end_ms - HOUR_MS, start_ms__lte=until_ms, end_ms__gt=end_ms
    )
    if later.exists() or compacted.exists():
        return _LONGEST_MS
    return round(1000 * float(before.seconds.max(initial=window.sample_seconds)))


def _since_ms(device: Device, window: Batch, first_ms: int) -> int:
    """Return from when on the window changes anything: the sample before it may have been far away, and is no gap apart."""
    from_ms = first_ms - samples.reach_ms(_LONGEST_MS)
    batches = StoredBatch.objects.filter(host=device.host_id, epoch=window.epoch, start_ms__gte=from_ms)
    hours = Chunk.objects.filter(device=device, start_ms__gt=from_ms - HOUR_MS)
    ends = (rows.filter(end_ms__lt=first_ms).aggregate(at=Max("end_ms"))["at"] for rows in (batches, hours))
    return max((end for end in ends if end is not None and end >= from_ms), default=first_ms)


def _parts(window: Batch, seconds: NDArray[np.float64]) -> Iterator[Batch]:
    """Yield it in parts that the wire can hold, each of one sampling interval; `seconds (n_ticks,)` are those."""
    for interval in np.unique(seconds).tolist():
        ticks = np.flatnonzero(seconds == interval).tolist()
        for start in range(0, len(ticks), wire.MAX_TICKS):
            part = ticks[start : start + wire.MAX_TICKS]
            times = [window.times_ms[tick] for tick in part]
            read = ((metric, [values[tick] for tick in part]) for metric, (values,) in window.columns.items())
            columns = {metric: [values] for metric, values in read if any(value is not None for value in values)}
            yield replace(window, times_ms=times, sent_ms=times[-1], columns=columns, sample_seconds=interval)


def _update_latest(host: Host, window: Batch) -> None:
    """Put the window's last samples into the host's row, by device: a file may hold one device after another."""
    row = LatestState.objects.select_for_update().filter(host=host).first()
    devices = dict(row.devices) if row else {}
    uuid, at_ms = window.devices[0].uuid, window.times_ms[-1]
    if uuid in devices and devices[uuid]["at_ms"] > at_ms:
        return
    values = {metric: columns[0][-1] for metric, columns in window.columns.items() if columns[0][-1] is not None}
    devices[uuid] = {"at_ms": at_ms, "read_ms": at_ms, "values": values, "absent": {}}
    newest = max(at_ms, row.at_ms if row else at_ms)
    LatestState.objects.update_or_create(host=host, defaults={"at_ms": newest, "devices": devices})
