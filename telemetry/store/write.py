"""Writing the store: accepted batches, the latest state, rollups, retention. Called by ingest and the rollup tasks.

Every function is one short transaction and may be repeated: a batch is accepted once, whatever comes again.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from django.db import transaction

from fleet.models import Device, Host
from telemetry import catalog
from telemetry.catalog import Kind
from telemetry.models import Chunk, DirtyMinute, LatestState, MinuteRollup
from telemetry.store import read
from telemetry.store.read import MINUTE_MS
from telemetry.wire import Batch

_EPOCH_MARGIN_MS = 120_000  # by so much two machines' clocks, or one before and after it was set, may differ


class Accepted(NamedTuple):
    """Whether a batch was new, and the other life of the same agent's key that goes on beside it, "" where there is none.

    `tells` names what the host says of itself here ("software", "topology") and no newer batch has said.
    """

    is_new: bool
    rival_epoch: str = ""
    rival_began_ms: int = 0
    tells: frozenset[str] = frozenset()


@transaction.atomic
def accept(host: Host, batch: Batch, payload: bytes, now: datetime) -> Accepted:
    """Store a verified batch as it came; no effect where it was accepted before."""
    _, is_new = Chunk.objects.get_or_create(
        host=host,
        epoch=batch.epoch,
        sequence=batch.sequence,
        defaults={"start_ms": batch.times_ms[0], "end_ms": batch.times_ms[-1], "body": payload},
    )
    if not is_new:
        return Accepted(is_new=False)
    # From here on the host's row is locked: of two workers with batches of one host, also of a new one, the second waits.
    Host.objects.filter(pk=host.pk).update(heard_at=now)
    row = LatestState.objects.filter(host=host).first()
    before_ms = row.at_ms if row else 0
    if is_newest := _is_newest(row, batch, now):
        Host.objects.filter(pk=host.pk).update(last_seen_at=datetime.fromtimestamp(batch.times_ms[-1] / 1000, UTC))
    accepted = _update_latest(row, host, batch, now, is_newest=is_newest)
    mark_dirty(host, batch, is_late=before_ms > batch.times_ms[-1])
    return accepted


def mark_dirty(host: Host, batch: Batch, *, is_late: bool) -> None:
    """Have the batch's minutes rolled up (again); where later ones are there, also those that a counter's growth reaches."""
    start_ms, end_ms = batch.times_ms[0], batch.times_ms[-1]
    if is_late:
        end_ms += read.reach_ms(round(batch.sample_seconds * 1000))
    minutes = range(start_ms // MINUTE_MS, end_ms // MINUTE_MS + 1)
    rows = [DirtyMinute(host=host, minute_ms=minute * MINUTE_MS) for minute in minutes]
    # The conflicting row is written, not skipped: its lock makes a rollup in progress wait for this chunk.
    DirtyMinute.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["host", "minute_ms"], update_fields=["minute_ms"]
    )


def _is_newest(row: LatestState | None, batch: Batch, now: datetime) -> bool:
    """Tell whether nothing newer than the batch is known. A life of the agent counts its batches: there no clock is asked.

    Else by time; one ahead of now is left from a clock that was wrong, and what comes now is newer.
    """
    if row is None:
        return True
    if row.epoch == batch.epoch:
        return batch.sequence > row.sequence
    return row.at_ms < batch.times_ms[-1] or row.at_ms > now.timestamp() * 1000


def _update_latest(row: LatestState | None, host: Host, batch: Batch, now: datetime, *, is_newest: bool) -> Accepted:
    """Put the batch's last tick into the host's row, unless a newer one stands there: batches may come in any order."""
    is_first = row is None
    row = row or LatestState(host=host, at_ms=0, devices={})
    before = row.epoch
    accepted = _follow_epoch(row, batch)._replace(tells=_follow_tells(row, batch, now, is_newest=is_newest))
    if is_newest:
        _take_readings(row, batch)
        row.at_ms = batch.times_ms[-1]
        row.sequence = batch.sequence if row.epoch == batch.epoch else -1
    elif row.epoch == before and not accepted.tells:
        return accepted
    row.save(force_insert=is_first, force_update=not is_first)
    return accepted


def _follow_tells(row: LatestState, batch: Batch, now: datetime, *, is_newest: bool) -> frozenset[str]:
    """Keep when software and topology were told; return which of them this batch tells as the newest, also where it is late."""
    at_ms, now_ms, newest = batch.times_ms[-1], now.timestamp() * 1000, set()
    for name, told, before_ms in (
        ("software", batch.software, row.software_ms),
        ("topology", batch.topology, row.topology_ms),
    ):
        if told is not None and (is_newest or before_ms < at_ms or before_ms > now_ms):
            setattr(row, f"{name}_ms", at_ms)
            newest.add(name)
    return frozenset(newest)


def _follow_epoch(row: LatestState, batch: Batch) -> Accepted:
    """Keep which life of the agent the row comes from; tell where one that had ended goes on beside its successor.

    A late batch of the life before is normal: its samples lie before its successor began. A life begins anew with each
    start of the agent, so that one which comes back after another had begun is a second agent with the same key.
    """
    rival = Accepted(is_new=True)
    begins_ms = batch.times_ms[0]
    if row.epoch == batch.epoch or (row.epoch and begins_ms <= row.epoch_began_ms):
        return rival
    if row.epoch and _was_there_before(row, batch):
        if begins_ms <= row.epoch_began_ms + _EPOCH_MARGIN_MS:
            return rival
        rival = Accepted(is_new=True, rival_epoch=row.epoch, rival_began_ms=row.epoch_began_ms)
    row.epoch, row.epoch_began_ms, row.sequence = batch.epoch, begins_ms, -1
    return rival


def _was_there_before(row: LatestState, batch: Batch) -> bool:
    earlier = Chunk.objects.filter(host_id=row.host_id, epoch=batch.epoch, start_ms__lte=row.epoch_began_ms)
    return earlier.exists()


def _take_readings(row: LatestState, batch: Batch) -> None:
    """Note the last tick of each device, and who uses it where the batch says so. A part that is gone leaves the row."""
    at_ms, last = batch.times_ms[-1], {}
    parts = {device.uuid for device in batch.devices if device.parent or device.profile}
    kept = {uuid: d for uuid, d in row.devices.items() if not d.get("part")}
    for position, device in enumerate(batch.devices):
        values = {
            name: columns[position][-1] for name, columns in batch.columns.items() if columns[position][-1] is not None
        }
        absent = {name: reason.value for name, reason in batch.absent.get(device.uuid, {}).items()}
        if values or absent:
            read_ms = at_ms if values else row.devices.get(device.uuid, {}).get("read_ms")
            newest = {"at_ms": at_ms, "read_ms": read_ms, "values": values, "absent": absent}
            last[device.uuid] = newest | ({"part": True} if device.uuid in parts else {})
    row.devices = kept | last
    told = {
        uuid: {"at_ms": at_ms, "processes": [asdict(process) for process in found]}
        for uuid, found in batch.processes.items()
    }
    row.processes = {uuid: found for uuid, found in row.processes.items() if uuid in row.devices} | told


def dirty_minutes(limit: int) -> list[tuple[int, int]]:
    """Return up to `limit` (host id, minute_ms) whose rollups are to be made, oldest first."""
    return list(DirtyMinute.objects.order_by("minute_ms").values_list("host_id", "minute_ms")[:limit])


def leave_minute(host_id: int, minute_ms: int) -> None:
    """Forget that the minute's rollups are to be made, until a batch of it comes."""
    DirtyMinute.objects.filter(host=host_id, minute_ms=minute_ms).delete()


@transaction.atomic
def roll_up_minute(host_id: int, minute_ms: int) -> None:
    """Make the minute's rollups anew from its chunks. The mark goes first: a batch that comes meanwhile sets it again."""
    DirtyMinute.objects.filter(host=host_id, minute_ms=minute_ms).delete()
    devices = list(Device.objects.filter(host=host_id))
    found = read.raw_with_reach(devices, list(catalog.BY_NAME), minute_ms, minute_ms + MINUTE_MS)
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
        grown = growth[at >= minute_ms]
        increase = float(grown.sum()) if grown.size else None
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
