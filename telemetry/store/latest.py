"""The newest readings of each host, one row a host: kept up by the acceptance of batches, read by pages, API and exposition."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from fleet.models import Host
from telemetry import catalog
from telemetry.models import LatestState
from telemetry.store import bulk
from telemetry.store.arrival import Arrival
from telemetry.wire import Batch

_EPOCH_MARGIN_MS = 120_000  # by so much two machines' clocks, or one before and after it was set, may differ
_COLUMNS = (
    "at_ms", "devices", "processes", "epoch", "epoch_began_ms", "sequence", "software_ms", "topology_ms",
)  # fmt: skip


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


def take(
    arrivals: Sequence[Arrival],
    lives: Iterable[tuple[int, str]],
    now: datetime,
    *,
    heard_at: datetime | None = None,
) -> None:
    """Put each host's newest batch into its row, and fill in what is to be said of the arrivals beside their fate.

    `lives` are (host id, epoch) from which anything was accepted before these. The hosts' rows are locked by the caller.
    `heard_at` is when these came, None for now.
    """
    if not arrivals:
        return
    now_ms, lives = now.timestamp() * 1000, set(lives)
    rows = {row.host_id: row for row in LatestState.objects.filter(host__in={each.host.pk for each in arrivals})}
    shown: dict[int, list[Arrival]] = {}
    changed = {}
    for arrival in arrivals:
        host_id, batch = arrival.host.pk, arrival.batch
        row = rows.get(host_id) or rows.setdefault(host_id, LatestState(host_id=host_id, at_ms=0, devices={}))
        epoch, arrival.is_late = row.epoch, row.at_ms > batch.times_ms[-1]
        is_newest = _is_newest(row, batch, now_ms)
        _follow_epoch(row, arrival, was_there=arrival.life in lives)
        _follow_tells(row, arrival, now_ms, is_newest=is_newest)
        lives.add(arrival.life)
        if is_newest:
            shown.setdefault(host_id, []).append(arrival)
            row.at_ms = batch.times_ms[-1]
            row.sequence = batch.sequence if row.epoch == batch.epoch else -1
        if is_newest or arrival.tells or row.epoch != epoch:
            changed[host_id] = row
    for host_id, newest in shown.items():
        _show(rows[host_id], newest)
    _keep(changed.values())
    bulk.note_heard({host: _of_ms(row.at_ms) if host in shown else None for host, row in rows.items()}, heard_at or now)


def _keep(rows: Iterable[LatestState]) -> None:
    values = [
        (
            row.host_id, row.at_ms, orjson.dumps(row.devices).decode(), orjson.dumps(row.processes).decode(), row.epoch,
            row.epoch_began_ms, row.sequence, row.software_ms, row.topology_ms,
        )
        for row in rows
    ]  # fmt: skip
    bulk.upsert("telemetry_lateststate", ("host_id",), _COLUMNS, values)


def _of_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _is_newest(row: LatestState, batch: Batch, now_ms: float) -> bool:
    """Tell whether nothing newer than the batch is known. An epoch counts its batches: there no clock is asked.

    Else by time; one ahead of now is left from a clock that was wrong, and what comes now is newer.
    """
    if row.epoch == batch.epoch:
        return batch.sequence > row.sequence
    return row.at_ms < batch.times_ms[-1] or row.at_ms > now_ms


def _follow_tells(row: LatestState, arrival: Arrival, now_ms: float, *, is_newest: bool) -> None:
    """Keep when software and topology were told, and which of them this batch tells as the newest, also where it is late."""
    batch, newest = arrival.batch, set()
    at_ms = batch.times_ms[-1]
    if batch.software is not None and (is_newest or row.software_ms < at_ms or row.software_ms > now_ms):
        row.software_ms = at_ms
        newest.add("software")
    if batch.topology is not None and (is_newest or row.topology_ms < at_ms or row.topology_ms > now_ms):
        row.topology_ms = at_ms
        newest.add("topology")
    arrival.tells = frozenset(newest)


def _follow_epoch(row: LatestState, arrival: Arrival, *, was_there: bool) -> None:
    """Keep which spool's life the row comes from; tell where one that had ended goes on beside its successor.

    A late batch of the life before is normal: its samples lie before its successor began. A life ends with its spool, as
    where a host is installed anew, so that one which comes back after another had begun is a second agent with the same key.
    """
    batch, begins_ms = arrival.batch, arrival.batch.times_ms[0]
    if row.epoch == batch.epoch or (row.epoch and begins_ms <= row.epoch_began_ms):
        return
    if row.epoch and was_there:
        if begins_ms <= row.epoch_began_ms + _EPOCH_MARGIN_MS:
            return
        arrival.rival_epoch, arrival.rival_began_ms = row.epoch, row.epoch_began_ms
    row.epoch, row.epoch_began_ms, row.sequence = batch.epoch, begins_ms, -1


def _show(row: LatestState, newest: Sequence[Arrival]) -> None:
    """Put batches of one host into its row, of which each is newer than the one before: their readings, and who uses what."""
    last = _readings(newest[-1])
    read = {uuid for uuid, device in last.items() if device["values"]}
    processes = dict(row.processes)
    for arrival in newest:
        batch, at_ms = arrival.batch, arrival.batch.times_ms[-1]
        if arrival is newest[-1]:
            _take_readings(row, arrival, last)
        elif not read.issuperset(device.uuid for device in batch.devices):
            _take_readings(row, arrival, _readings(arrival))
        processes |= {
            uuid: {"at_ms": at_ms, "processes": [asdict(process) for process in found]}
            for uuid, found in batch.processes.items()
        }
    named = row.devices.keys() | newest[-1].batch.processes.keys()
    row.processes = {uuid: found for uuid, found in processes.items() if uuid in named}


def _take_readings(row: LatestState, arrival: Arrival, last: dict[str, dict[str, Any]]) -> None:
    """Note the last tick of each device. A part that is gone leaves the row."""
    for uuid, device in last.items():
        if device["read_ms"] is None and uuid in row.devices:
            device["read_ms"] = row.devices[uuid].get("read_ms")
    row.devices = {uuid: device for uuid, device in row.devices.items() if not device.get("part")} | last


def _readings(arrival: Arrival) -> dict[str, dict[str, Any]]:
    """Return the last tick of each device that has any value or reason there, as the row holds it."""
    batch = arrival.batch
    at_ms, tick = batch.times_ms[-1], len(batch.times_ms) - 1
    values: list[dict[str, float]] = [{} for _ in batch.devices]
    for part in arrival.parts:
        if part.ticks[-1] == tick:
            for number, place, step in zip(
                part.numbers.tolist(), part.places.tolist(), part.steps[:, -1].tolist(), strict=True
            ):
                if number in _SCALES:
                    name, factor, divisor = _SCALES[number]
                    values[place][name] = step * factor if divisor == 1 else step / divisor
    found = {}
    for device, read in zip(batch.devices, values, strict=True):
        absent = {name: reason.value for name, reason in batch.absent.get(device.uuid, {}).items()}
        if read or absent:
            found[device.uuid] = {"at_ms": at_ms, "read_ms": at_ms if read else None, "values": read, "absent": absent}
            if device.parent or device.profile:
                found[device.uuid]["part"] = True
    return found


def _scale(resolution: float) -> tuple[float, int]:
    """Return factor and divisor of steps; whole steps are divided, not multiplied, so that 0.1 °C stays 41.3."""
    return (resolution, 1) if resolution >= 1 else (1, round(1 / resolution))


_SCALES = {metric.number: (metric.name, *_scale(metric.resolution)) for metric in catalog.METRICS}
