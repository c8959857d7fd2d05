"""Writing recorded telemetry: windows of samples that may come in any split, order and repetition. Called by the importers.

Unlike an agent's batch, a window grows: what a later file says of the same device and time joins what is there, and the
same file again changes nothing, also after the window was compacted.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from fleet.models import Device, Host
from telemetry import catalog, matrix, wire
from telemetry.models import AcceptedSequences, Chunk, LatestState, StoredBatch
from telemetry.store import accept, gather, samples
from telemetry.store.chunks import HOUR_MS
from telemetry.store.gather import Gathered, Gathering
from telemetry.wire import Batch

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
    _store(host, joined, known)
    accept.mark_dirty(host, joined, _slowest_ms(device, before, window, joined.times_ms[-1]))
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
    after.seconds[:] = min([window.sample_seconds, *before.seconds.tolist()])
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
    seconds = float(found.seconds[0])
    return replace(window, times_ms=times, sent_ms=times[-1], columns=columns, sample_seconds=seconds)


def _store(host: Host, window: Batch, known: AcceptedSequences) -> None:
    """Add it as batches of its own, under numbers that no other had: what a compaction has begun with stays as it is."""
    rows = []
    for sequence, part in enumerate(_parts(window), known.newest_sequence + 1):
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


def _parts(window: Batch) -> Iterator[Batch]:
    """Yield it in parts that the wire can hold."""
    for start in range(0, len(window.times_ms), wire.MAX_TICKS):
        part = slice(start, start + wire.MAX_TICKS)
        times = window.times_ms[part]
        columns = {metric: [column[0][part]] for metric, column in window.columns.items()}
        yield replace(window, times_ms=times, sent_ms=times[-1], columns=columns)


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
