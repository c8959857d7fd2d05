"""The newest readings of each host, one row a host: kept up by the acceptance of batches, read by pages, API and exposition."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from fleet.models import Host
from telemetry.models import LatestState, StoredBatch
from telemetry.wire import Batch

_EPOCH_MARGIN_MS = 120_000  # by so much two machines' clocks, or one before and after it was set, may differ


@dataclass(frozen=True, slots=True)
class LatestDevice:
    """One device at `at_ms`; `read_ms` is when it last gave any value, None if it never did."""

    at_ms: int
    read_ms: int | None
    values: dict[str, float]
    absent: dict[str, str]


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest readings of one host, and who used its devices when that was last looked at."""

    at_ms: int
    devices: dict[str, LatestDevice]
    processes: dict[str, dict[str, Any]]


class Accepted(NamedTuple):
    """Whether a batch was new, and the other life of the same agent's key that goes on beside it, "" where there is none.

    `tells` names what the host says of itself here ("software", "topology") and no newer batch has said.
    """

    is_new: bool
    rival_epoch: str = ""
    rival_began_ms: int = 0
    tells: frozenset[str] = frozenset()


def of_hosts(hosts: Sequence[Host]) -> dict[int, Latest]:
    """Return the newest readings by host id, in one query."""
    rows = LatestState.objects.filter(host__in=hosts) if len(hosts) < 100 else LatestState.objects.all()
    return {
        row.host_id: Latest(
            row.at_ms,
            {uuid: LatestDevice(d["at_ms"], d["read_ms"], d["values"], d["absent"]) for uuid, d in row.devices.items()},
            row.processes,
        )
        for row in rows
    }


def is_newest(row: LatestState | None, batch: Batch, now: datetime) -> bool:
    """Tell whether nothing newer than the batch is known. A life of the agent counts its batches: there no clock is asked.

    Else by time; one ahead of now is left from a clock that was wrong, and what comes now is newer.
    """
    if row is None:
        return True
    if row.epoch == batch.epoch:
        return batch.sequence > row.sequence
    return row.at_ms < batch.times_ms[-1] or row.at_ms > now.timestamp() * 1000


def update(row: LatestState | None, host: Host, batch: Batch, now: datetime, *, is_newest: bool) -> Accepted:
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
    earlier = StoredBatch.objects.filter(host_id=row.host_id, epoch=batch.epoch, start_ms__lte=row.epoch_began_ms)
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
