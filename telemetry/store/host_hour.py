"""One host's batches of one hour → chunks. Called by the compaction.

Everything slow is done before the first transaction; each then checks that the batches and chunks are still the ones that
were read, and stays short. Chunks are written before their batches go: whoever is stopped in between leaves samples that
stand twice, which readers and the next run count once. What one run leaves to do, another finishes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from fleet.models import Device, Event, EventKind, Host
from telemetry.models import Chunk, SetAside, StoredBatch
from telemetry.store import chunks, gather, unreadable
from telemetry.store.chunks import HOUR_MS
from telemetry.store.stored_batches import StoredBatches

_SLICE_BYTES, _SLICE_ROWS = 1_000_000, 400  # of chunks written, and of batches removed, in one transaction
_MAX_CELLS = 4_000_000  # of the matrix, and readings beside it, in memory at once: 17 bytes each


class _ChangedMeanwhile(Exception):
    """Somebody else has worked on the same hour: what was made is out of date."""


@dataclass(slots=True)
class Done:
    """`n_batches` that went, of which `n_aside` were also set aside, and `n_chunks` that were written.

    `corrupt` names the hours that could not be added to: their batches stay.
    """

    n_batches: int = 0
    n_chunks: int = 0
    n_aside: int = 0
    corrupt: list[str] = field(default_factory=list)

    def add(self, other: "Done") -> None:
        self.n_batches += other.n_batches
        self.n_chunks += other.n_chunks
        self.n_aside += other.n_aside
        self.corrupt += other.corrupt


class _Made(NamedTuple):
    """A chunk to be written in place of the body that was there, None where there was none."""

    chunk: Chunk
    before: bytes | None


def compact(host: Host, start_ms: int) -> Done:
    """Make chunks of the batches that begin in this hour; where others do the same meanwhile, nothing is done here."""
    # Of two batches that say different things of one time, the greater sequence holds: it is added later.
    rows = sorted(_rows(host, start_ms), key=lambda row: (row.epoch, row.sequence))
    stored = StoredBatches(rows, keep_cells=_MAX_CELLS)
    devices = _own(host, stored.uuids, start_ms)
    done = Done(n_batches=len(rows))
    try:
        for uuids in stored.groups(devices, _MAX_CELLS):
            made = _made(stored, {uuid: devices[uuid] for uuid in uuids})
            for part in _slices(made):
                _write(host, start_ms, rows, part)
                done.n_chunks += len(part)
        aside = _aside(stored, devices)
        lost = [row for row, cells in zip(rows, stored.cells, strict=True) if cells is None]
        unreadable.note(map(unreadable.of_batch, lost), timezone.now())  # before they are no batches any more
        _keep_aside(host, start_ms, rows, aside)
        for first in range(0, len(rows), _SLICE_ROWS):
            _remove(host, start_ms, rows[first : first + _SLICE_ROWS])
        done.n_aside = len(aside)
    except (_ChangedMeanwhile, IntegrityError):  # or a chunk that was not there is there now
        return Done()
    except chunks.ChunkCorrupt as error:
        return Done(corrupt=[str(error)])
    return done


def _rows(host: Host, start_ms: int) -> QuerySet[StoredBatch]:
    return StoredBatch.objects.filter(host=host, start_ms__gte=start_ms, start_ms__lt=start_ms + HOUR_MS)


def _own(host: Host, uuids: set[str], start_ms: int) -> dict[str, Device]:
    """Return by uuid the devices that are the host's, or were: what another host claims of them is no part of theirs."""
    found = {device.uuid: device for device in Device.objects.filter(uuid__in=uuids)}
    others = [device for device in found.values() if device.host_id != host.pk]
    left = set()
    if others:
        since = datetime.fromtimestamp(start_ms / 1000, UTC)
        moves = Event.objects.filter(
            kind=EventKind.DEVICE_MOVED, device__in=others, detail__other_host=host.name, last_at__gte=since
        )
        left = set(moves.values_list("device_id", flat=True))
    return {uuid: device for uuid, device in found.items() if device.host_id == host.pk or device.pk in left}


def _made(stored: StoredBatches, devices: Mapping[str, Device]) -> list[_Made]:
    """Return the chunks that differ from what is there. Raises ChunkCorrupt."""
    gathering = gather.Gathering(devices)
    there = {(row.device_id, row.start_ms): row for row in _there(stored, devices)}
    by_pk = {device.pk: device for device in devices.values()}
    for row in there.values():
        gathering.add_hour(by_pk[row.device_id].uuid, _decoded(row, by_pk[row.device_id]))
    for batch, parts in stored:
        gathering.add_batch(batch, parts)
    made = []
    for uuid, start_ms, hour in gather.hours(gathering.gathered()):
        device, body = devices[uuid], chunks.encode(hour)
        before = there.get((device.pk, start_ms))
        if before is None or bytes(before.body) != body:
            chunk = Chunk(
                device=device, host_id=device.host_id, start_ms=start_ms, end_ms=int(hour.times_ms.max()),
                n_values=hour.n_values, body=body,
            )  # fmt: skip
            made.append(_Made(chunk, bytes(before.body) if before else None))
    return made


def _there(stored: StoredBatches, devices: Mapping[str, Device]) -> QuerySet[Chunk]:
    first, last = stored.span_ms
    return Chunk.objects.filter(
        device__in=devices.values(), start_ms__gte=first // HOUR_MS * HOUR_MS, start_ms__lte=last
    )


def _decoded(row: Chunk, device: Device) -> chunks.DeviceHour:
    try:
        return chunks.decode(bytes(row.body))
    except chunks.ChunkCorrupt as error:
        chunks.warn_corrupt(device.uuid, row.start_ms, error)
        unreadable.note([unreadable.of_chunk(row.host_id, device.uuid, row.start_ms, error)], timezone.now())
        raise chunks.ChunkCorrupt(f"{device.uuid} at {row.start_ms}") from error


def _slices(made: Sequence[_Made]) -> Iterator[list[_Made]]:
    part: list[_Made] = []
    size = 0
    for each in made:
        if part and size + len(each.chunk.body) > _SLICE_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += len(each.chunk.body)
    if part:
        yield part


@transaction.atomic
def _write(host: Host, start_ms: int, rows: Sequence[StoredBatch], made: Sequence[_Made]) -> None:
    _check_rows(host, start_ms, rows)
    Chunk.objects.bulk_create(each.chunk for each in made if each.before is None)
    for chunk, before in made:
        if before is not None:
            fields = {"host_id": chunk.host_id, "end_ms": chunk.end_ms, "n_values": chunk.n_values, "body": chunk.body}
            same = Chunk.objects.filter(device_id=chunk.device_id, start_ms=chunk.start_ms, body=before)
            if not same.update(**fields):
                raise _ChangedMeanwhile


def _check_rows(host: Host, start_ms: int, rows: Sequence[StoredBatch]) -> None:
    """Lock the rows: of two that work on them, the second finds them gone."""
    there = set(_rows(host, start_ms).select_for_update().values_list("epoch", "sequence"))
    if not there.issuperset((row.epoch, row.sequence) for row in rows):
        raise _ChangedMeanwhile


def _aside(stored: StoredBatches, devices: Mapping[str, Device]) -> list[SetAside]:
    """Return what of the batches is in no chunk: they are kept whole, with the reason."""
    now, found = timezone.now(), []
    for row, cells in zip(stored.rows, stored.cells, strict=True):
        if cells is None:
            reason, n_values = "it cannot be read", 0
        else:
            others = {uuid: n for uuid, n in cells.items() if uuid not in devices}
            reason, n_values = f"it names devices that are not this host's: {', '.join(others)}", sum(others.values())
            if not others:
                continue
        found.append(_set_aside(row, n_values, reason, now))
    return found


def _set_aside(row: StoredBatch, n_values: int, reason: str, now: datetime) -> SetAside:
    return SetAside(
        host_id=row.host_id, epoch=row.epoch, sequence=row.sequence, start_ms=row.start_ms, end_ms=row.end_ms,
        n_values=n_values, reason=reason[:200], received_at=now, body=row.body,
        digest=SetAside.digest_of(bytes(row.body)),
    )  # fmt: skip


@transaction.atomic
def _keep_aside(host: Host, start_ms: int, rows: Sequence[StoredBatch], aside: Sequence[SetAside]) -> None:
    if aside:
        _check_rows(host, start_ms, rows)
        SetAside.objects.bulk_create(aside, ignore_conflicts=True)


@transaction.atomic
def _remove(host: Host, start_ms: int, rows: Sequence[StoredBatch]) -> None:
    _check_rows(host, start_ms, rows)
    for epoch, first, last in _runs(rows):
        _rows(host, start_ms).filter(epoch=epoch, sequence__gte=first, sequence__lte=last).delete()


def _runs(rows: Sequence[StoredBatch]) -> Iterator[tuple[str, int, int]]:
    """Yield (epoch, first, last) sequences without a hole, of rows in that order: so only these go, and in few statements."""
    first = 0
    for at, row in enumerate(rows):
        is_last = at + 1 == len(rows)
        if is_last or (rows[at + 1].epoch, rows[at + 1].sequence) != (row.epoch, row.sequence + 1):
            yield row.epoch, rows[first].sequence, row.sequence
            first = at + 1
