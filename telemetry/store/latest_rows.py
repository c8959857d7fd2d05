"""The rows of the newest readings, one a host: kept up by the acceptance of batches, in its transaction. Read by latest.py.

What stays is the last tick of the newest batch, in whatever order they come.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fleet.models import Origin
from telemetry import catalog
from telemetry.decoding.matrix import Steps
from telemetry.message.wire import Batch
from telemetry.models import LatestState
from telemetry.store import bulk
from telemetry.store.arrival import Arrival

Indices = NDArray[np.int64]
Version = tuple[int, str, int]
_MADE_PAST_MS = 300_000  # of a simulated host: samples as old as this are of the past that is being made for it
_EPOCH_MARGIN_MS = 120_000  # by so much two machines' clocks, or one before and after it was set, may differ
_COLUMNS = (
    "at_ms", "devices", "processes", "epoch", "epoch_began_ms", "sequence", "software_ms", "topology_ms",
)  # fmt: skip
_HEAD = ("host_id", *(column for column in _COLUMNS if column != "devices"))
_ROWS_KEPT = 16_384
# By host id, of the rows that this process wrote: which state of them, with whose devices.
_written: dict[int, tuple[Version, frozenset[str]]] = {}


@dataclass(slots=True)
class Row:
    """A row of LatestState on its way; `devices` None are not read yet."""

    host_id: int
    at_ms: int = 0
    processes: dict[str, Any] = field(default_factory=dict)
    epoch: str = ""
    epoch_began_ms: int = 0
    sequence: int = -1
    software_ms: int = 0
    topology_ms: int = 0
    devices: dict[str, Any] | None = None

    @property
    def kept(self) -> dict[str, Any]:
        return self.devices or {}

    @property
    def version(self) -> Version:
        """Its devices change with the newest batch only, and no two of these have all three in common."""
        return self.at_ms, self.epoch, self.sequence


def take(
    arrivals: Sequence[Arrival],
    lives: Iterable[tuple[int, str]],
    now: datetime,
    *,
    heard_at: datetime | None = None,
) -> None:
    """Put each host's newest batch into its row, and fill in what is to be said of the arrivals beside their fate.

    `lives` are (host id, epoch) from which anything was accepted before these. The hosts' rows are locked by the caller.
    `heard_at` is when these came, None for now. What makes a simulated host's past is no host's present: no row has it.
    """
    if not arrivals:
        return
    now_ms, lives = now.timestamp() * 1000, set(lives)
    rows = _rows({each.host.pk for each in arrivals})
    found = {host: row.version for host, row in rows.items()}
    shown: dict[int, list[Arrival]] = {}
    seen_ms: dict[int, int] = {}
    changed = {}
    for arrival in arrivals:
        host_id, batch = arrival.host.pk, arrival.batch
        row = rows.get(host_id) or rows.setdefault(host_id, Row(host_id, devices={}))
        epoch, arrival.is_late = row.epoch, row.at_ms > batch.times_ms[-1]
        is_newest = _is_newest(row, batch, now_ms)
        _follow_epoch(row, arrival, was_there=arrival.life in lives)
        _follow_tells(row, arrival, now_ms, is_newest=is_newest)
        lives.add(arrival.life)
        if is_newest:
            seen_ms[host_id] = batch.times_ms[-1]
        if is_newest and _is_made_past(arrival, now_ms):
            continue
        if is_newest:
            shown.setdefault(host_id, []).append(arrival)
            row.at_ms = batch.times_ms[-1]
            row.sequence = batch.sequence if row.epoch == batch.epoch else -1
        if is_newest or arrival.tells or row.epoch != epoch:
            changed[host_id] = row
    last = {host: _readings(newest[-1]) for host, newest in shown.items()}
    _read_devices(changed, found, last)
    for host_id, newest in shown.items():
        _show(rows[host_id], newest, last[host_id])
    _keep(changed.values())
    seen_at = {host: _of_ms(seen_ms[host]) if host in seen_ms else None for host in rows}
    bulk.note_heard(seen_at, heard_at or now)


def _rows(hosts: Collection[int]) -> dict[int, Row]:
    """Return the hosts' rows by host id, without their devices: these are long, and mostly written anew."""
    found = LatestState.objects.filter(host__in=hosts).values_list(*_HEAD)
    return {host_id: Row(host_id, *head) for host_id, *head in found}


def _read_devices(
    changed: Mapping[int, Row], versions: Mapping[int, Version], last: Mapping[int, dict[str, Any]]
) -> None:
    """Fill in the devices of rows that are to be written: of what is written over anyway, none.

    What this process wrote itself it need not read, as long as nobody has written since.
    """
    missing = []
    for host, row in changed.items():
        if row.devices is not None:
            continue
        version, uuids = _written.get(host, (None, frozenset()))
        read = last.get(host, {})
        if version == versions[host] and all(uuid in read and read[uuid]["values"] for uuid in uuids):
            row.devices = {}
        else:
            missing.append(host)
    if missing:
        for host, devices in LatestState.objects.filter(host__in=missing).values_list("host_id", "devices"):
            changed[host].devices = devices


def _keep(rows: Collection[Row]) -> None:
    values = [
        (
            row.host_id, row.at_ms, orjson.dumps(row.devices).decode(), orjson.dumps(row.processes).decode(), row.epoch,
            row.epoch_began_ms, row.sequence, row.software_ms, row.topology_ms,
        )
        for row in rows
    ]  # fmt: skip
    bulk.upsert("telemetry_lateststate", ("host_id",), _COLUMNS, values)
    if len(_written) > _ROWS_KEPT:
        _written.clear()
    _written.update({row.host_id: (row.version, frozenset(row.devices or ())) for row in rows})


def _of_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _is_newest(row: Row, batch: Batch, now_ms: float) -> bool:
    """Tell whether nothing newer than the batch is known. An epoch counts its batches: there no clock is asked.

    Else by time; one ahead of now is left from a clock that was wrong, and what comes now is newer.
    """
    if row.epoch == batch.epoch:
        return batch.sequence > row.sequence
    return row.at_ms < batch.times_ms[-1] or row.at_ms > now_ms


def _is_made_past(arrival: Arrival, now_ms: float) -> bool:
    return arrival.host.origin == Origin.SIMULATED and arrival.batch.times_ms[-1] < now_ms - _MADE_PAST_MS


def _follow_tells(row: Row, arrival: Arrival, now_ms: float, *, is_newest: bool) -> None:
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


def _follow_epoch(row: Row, arrival: Arrival, *, was_there: bool) -> None:
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


def _show(row: Row, newest: Sequence[Arrival], last: dict[str, dict[str, Any]]) -> None:
    """Put batches of one host into its row, of which each is newer than the one before: their readings, and who uses what.

    `last` are those of the last one.
    """
    read = {uuid for uuid, device in last.items() if device["values"]}
    processes = dict(row.processes)
    for arrival in newest:
        batch, at_ms = arrival.batch, arrival.batch.times_ms[-1]
        if arrival is newest[-1]:
            _take_readings(row, last)
        elif not read.issuperset(device.uuid for device in batch.devices):
            _take_readings(row, _readings(arrival))
        processes |= {
            uuid: {"at_ms": at_ms, "processes": [asdict(process) for process in found]}
            for uuid, found in batch.processes.items()
        }
    named = row.kept.keys() | newest[-1].batch.processes.keys()
    row.processes = {uuid: found for uuid, found in processes.items() if uuid in named}


def _take_readings(row: Row, last: dict[str, dict[str, Any]]) -> None:
    """Note the last tick of each device. A part that is gone leaves the row."""
    before = row.kept
    for uuid, device in last.items():
        if device["read_ms"] is None and uuid in before:
            device["read_ms"] = before[uuid].get("read_ms")
    row.devices = {uuid: device for uuid, device in before.items() if not device.get("part")} | last


def _readings(arrival: Arrival) -> dict[str, dict[str, Any]]:
    """Return the last tick of each device that has any value or reason there, as the row holds it."""
    batch, at_ms = arrival.batch, arrival.batch.times_ms[-1]
    values = _plan(arrival.last.numbers.tobytes(), arrival.last.places.tobytes()).by_place(arrival.last.steps)
    found = {}
    for place, device in enumerate(batch.devices):
        read = values.get(place, {})
        absent = {name: reason.value for name, reason in batch.absent.get(device.uuid, {}).items()}
        if read or absent:
            found[device.uuid] = {"at_ms": at_ms, "read_ms": at_ms if read else None, "values": read, "absent": absent}
            if device.parent or device.profile:
                found[device.uuid]["part"] = True
    return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """How readings become values by device: which of them are multiplied, and which divided.

    Whole steps are divided, not multiplied, so that 0.1 °C stays 41.3; what is multiplied stays a whole number. `devices` has
    of each place the names of its metrics, and where its own lie in both.
    """

    whole: Indices
    factors: Indices
    parts: Indices
    divisors: NDArray[np.float64]
    devices: list[tuple[int, tuple[str, ...], slice, slice]]

    def by_place(self, steps: Steps) -> dict[int, dict[str, float]]:
        """Return the values `{metric: number}` by the device's place in its batch."""
        whole, parts = (steps[self.whole] * self.factors).tolist(), (steps[self.parts] / self.divisors).tolist()
        return {
            place: dict(zip(names, whole[wholes] + parts[partials], strict=True))
            for place, names, wholes, partials in self.devices
        }


@lru_cache(maxsize=512)
def _plan(numbers: bytes, places: bytes) -> _Plan:
    """Hosts' batches have the same series again and again: they are named once."""
    of_series = zip(np.frombuffer(places, np.int64).tolist(), np.frombuffer(numbers, np.int64).tolist(), strict=True)
    known = sorted((place, number, at) for at, (place, number) in enumerate(of_series) if number in catalog.BY_NUMBER)
    metrics = [(place, catalog.BY_NUMBER[number], at) for place, number, at in known]
    whole = [each for each in metrics if each[1].resolution >= 1]
    parts = [each for each in metrics if each[1].resolution < 1]
    devices, n_whole, n_parts = [], 0, 0
    for place in sorted({place for place, _, _ in metrics}):
        names = [[metric.name for own, metric, _ in some if own == place] for some in (whole, parts)]
        ends = n_whole + len(names[0]), n_parts + len(names[1])
        devices.append((place, (*names[0], *names[1]), slice(n_whole, ends[0]), slice(n_parts, ends[1])))
        n_whole, n_parts = ends
    return _Plan(
        np.array([at for _, _, at in whole], np.int64),
        np.array([round(metric.resolution) for _, metric, _ in whole], np.int64),
        np.array([at for _, _, at in parts], np.int64),
        np.array([round(1 / metric.resolution) for _, metric, _ in parts], np.float64),
        devices,
    )
