"""Writing the store: accepted batches, the latest state, rollups, retention. Called by ingest and the rollup tasks.

Every function is one short transaction and may be repeated: a batch is accepted once, whatever comes again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from django.db import transaction
from django.db.models import Q

from fleet.models import Device, Host
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.models import Chunk, DirtyMinute, LatestState, MinuteRollup
from telemetry.store import read
from telemetry.store.read import MINUTE_MS
from telemetry.wire import Batch


@transaction.atomic
def accept(host: Host, batch: Batch, payload: bytes, now: datetime) -> bool:
    """Store a verified batch as it came; False (and no effect) where it was accepted before."""
    chunk, is_new = Chunk.objects.get_or_create(
        host=host,
        epoch=batch.epoch,
        sequence=batch.sequence,
        defaults={"start_ms": batch.times_ms[0], "end_ms": batch.times_ms[-1], "body": payload},
    )
    if not is_new:
        return False
    minutes = range(chunk.start_ms // MINUTE_MS, chunk.end_ms // MINUTE_MS + 1)
    rows = [DirtyMinute(host=host, minute_ms=minute * MINUTE_MS) for minute in minutes]
    # The conflicting row is written, not skipped: its lock makes a rollup in progress wait for this chunk.
    DirtyMinute.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["host", "minute_ms"], update_fields=["minute_ms"]
    )
    _update_latest(host, batch, now)
    newest = datetime.fromtimestamp(batch.times_ms[-1] / 1000, UTC)
    Host.objects.filter(pk=host.pk).update(heard_at=now)
    # A time ahead of now is left from a clock that was wrong: what comes now is newer.
    older = Q(last_seen_at=None) | Q(last_seen_at__lt=newest) | Q(last_seen_at__gt=now)
    Host.objects.filter(older, pk=host.pk).update(last_seen_at=newest)
    return True


def _update_latest(host: Host, batch: Batch, now: datetime) -> None:
    """Put the batch's last tick into the host's row, unless a newer one stands there: batches may come in any order."""
    at_ms = batch.times_ms[-1]
    row = LatestState.objects.select_for_update().filter(host=host).first()
    if row is not None and at_ms <= row.at_ms <= now.timestamp() * 1000:
        return
    devices = dict(row.devices) if row else {}
    for position, device in enumerate(batch.devices):
        values = {
            name: columns[position][-1] for name, columns in batch.columns.items() if columns[position][-1] is not None
        }
        absent = {name: reason.value for name, reason in batch.absent.get(device.uuid, {}).items()}
        if values or absent:
            read_ms = at_ms if values else devices.get(device.uuid, {}).get("read_ms")
            devices[device.uuid] = {"at_ms": at_ms, "read_ms": read_ms, "values": values, "absent": absent}
    LatestState.objects.update_or_create(host=host, defaults={"at_ms": at_ms, "devices": devices})


def dirty_minutes(limit: int) -> list[tuple[int, int]]:
    """Return up to `limit` (host id, minute_ms) whose rollups are to be made, oldest first."""
    return list(DirtyMinute.objects.order_by("minute_ms").values_list("host_id", "minute_ms")[:limit])


@transaction.atomic
def roll_up_minute(host_id: int, minute_ms: int) -> None:
    """Make the minute's rollups anew from its chunks. The mark goes first: a batch that comes meanwhile sets it again."""
    DirtyMinute.objects.filter(host=host_id, minute_ms=minute_ms).delete()
    devices = list(Device.objects.filter(host=host_id))
    found = read.raw(devices, list(catalog.BY_NAME), minute_ms - read.COUNTER_REACH_MS, minute_ms + MINUTE_MS)
    ids = {device.uuid: device.pk for device in devices}
    rows = [
        row
        for (uuid, metric), series in found.items()
        if (row := _rollup(ids[uuid], metric, minute_ms, series)) is not None
    ]
    MinuteRollup.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["device", "metric", "minute_ms"],
        update_fields=["minimum", "mean", "maximum", "last", "count", "increase"],
    )


def _rollup(device_id: int, metric: str, minute_ms: int, series: read.Samples) -> MinuteRollup | None:
    inside = series.times_ms >= minute_ms
    values = series.values[inside]
    if not values.size:
        return None
    increase = None
    if catalog.BY_NAME[metric].kind is Kind.COUNTER:
        at, growth = read.counter_growth(series)
        increase = float(growth[at >= minute_ms].sum())
    return MinuteRollup(
        device_id=device_id, metric=metric, minute_ms=minute_ms, count=values.size, increase=increase,
        minimum=float(values.min()), mean=float(np.mean(values)), maximum=float(values.max()), last=float(values[-1]),
    )  # fmt: skip


def retire_chunks(hosts: Sequence[Host], before_ms: int, limit: int) -> int:
    """Delete up to `limit` of the hosts' chunks that end before the time; a slice, so that no transaction is long."""
    old = (
        Chunk.objects.filter(host__in=hosts, end_ms__lt=before_ms)
        .order_by("end_ms")
        .values_list("pk", flat=True)[:limit]
    )
    return Chunk.objects.filter(pk__in=list(old)).delete()[0]


def retire_rollups(hosts: Sequence[Host], before_ms: int, limit: int) -> int:
    old = MinuteRollup.objects.filter(device__host__in=hosts, minute_ms__lt=before_ms).values_list("pk", flat=True)[
        :limit
    ]
    return MinuteRollup.objects.filter(pk__in=list(old)).delete()[0]
