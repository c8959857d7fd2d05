"""One host's batches of one hour → chunks. Called by the compaction.

Everything slow is done before the first transaction; each then checks that the batches and chunks are still the ones that
were read, and stays short. Chunks are written before their batches go: whoever is stopped in between leaves samples that
stand twice, which readers and the next run count once. What one run leaves to do, another finishes.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from fleet.models import Host, Origin
from telemetry.models import Chunk, SetAside, StoredBatch
from telemetry.store import chunks, gather, stays, unreadable
from telemetry.store.chunks import HOUR_MS
from telemetry.store.stays import Holding, Stay
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


class _Hour(NamedTuple):
    """One host's hour: its batches, and whose what they say is.

    `is_disputed` where not all that they name was this host's for all of their time: who had it may be told otherwise meanwhile.
    """

    host: Host
    start_ms: int
    stored: StoredBatches
    held: Holding
    is_disputed: bool

    @classmethod
    def of(cls, host: Host, start_ms: int, stored: StoredBatches) -> "_Hour":
        held = _held(host, stored)
        is_disputed = bool(held.spans) or not stored.uuids <= held.ids.keys()
        return cls(host, start_ms, stored, held, is_disputed)

    def check(self, rows: Sequence[StoredBatch]) -> None:
        """Lock the rows: of two that work on them, the second finds them gone. Raises _ChangedMeanwhile."""
        if self.is_disputed:
            # First, as whoever stores a batch does, who may move a device to this host, or begin its stay earlier.
            list(Host.objects.select_for_update(no_key=True).filter(pk=self.host.pk).values_list("pk"))
            if _held(self.host, self.stored) != self.held:
                raise _ChangedMeanwhile
        there = set(_rows(self.host, self.start_ms).select_for_update().values_list("epoch", "sequence"))
        if not there.issuperset((row.epoch, row.sequence) for row in rows):
            raise _ChangedMeanwhile


def compact(host: Host, start_ms: int) -> Done:
    """Make chunks of the batches that begin in this hour; where others do the same meanwhile, nothing is done here."""
    # Of two batches that say different things of one time, the greater sequence holds: it is added later.
    rows = sorted(_rows(host, start_ms), key=lambda row: (row.epoch, row.sequence))
    stored = StoredBatches(rows, keep_cells=_MAX_CELLS)
    hour, done = _Hour.of(host, start_ms, stored), Done(n_batches=len(rows))
    try:
        for uuids in stored.groups(hour.held.ids, _MAX_CELLS):
            made = _made(host, stored, hour.held.only(uuids))
            for part in _slices(made):
                _write(hour, part)
                done.n_chunks += len(part)
        aside = _aside(stored, hour.held)
        lost = [row for row, cells in zip(rows, stored.cells, strict=True) if cells is None]
        unreadable.note(map(unreadable.of_batch, lost), timezone.now())  # before they are no batches any more
        _keep_aside(hour, aside)
        for first in range(0, len(rows), _SLICE_ROWS):
            _remove(hour, rows[first : first + _SLICE_ROWS])
        done.n_aside = len(aside)
    except (_ChangedMeanwhile, IntegrityError):  # or a chunk that was not there is there now
        return Done()
    except chunks.ChunkCorrupt as error:
        return Done(corrupt=[str(error)])
    return done


def _held(host: Host, stored: StoredBatches) -> Holding:
    """Return what the host had, of all that its batches name, in their time."""
    first, last = stored.span_ms
    return stays.of_hosts([host.pk], first, last + 1)[host.pk].only(stored.uuids)


def _rows(host: Host, start_ms: int) -> QuerySet[StoredBatch]:
    return StoredBatch.objects.filter(host=host, start_ms__gte=start_ms, start_ms__lt=start_ms + HOUR_MS)


def _made(host: Host, stored: StoredBatches, held: Holding) -> list[_Made]:
    """Return the chunks that differ from what is there. Raises ChunkCorrupt.

    A chunk holds what all hosts of its hour said of the device, each in its stay.
    """
    uuids = {pk: uuid for uuid, pk in held.ids.items()}
    there = {(row.device_id, row.start_ms): row for row in _there(stored, uuids)}
    gathering = gather.Gathering(held.ids)
    for row in there.values():
        gathering.add_hour(uuids[row.device_id], _decoded(row, uuids[row.device_id]))
    said = gather.Gathering(held.ids) if held.spans else gathering
    for batch, parts in stored:
        said.add_batch(batch, parts)
    if held.spans:  # of what this host says alone: the chunks have what others said in their time
        gathering.add_gathered(said.gathered().of_stays(held.spans))
    made, moved = [], stays.of_moved(held.moved) if held.moved else {}
    for uuid, start_ms, hour in gather.hours(gathering.gathered()):
        device, body = held.ids[uuid], chunks.encode(hour)
        before = there.get((device, start_ms))
        if before is None or bytes(before.body) != body:
            whose = _whose(host, before, moved.get(device, ()), start_ms)
            chunk = Chunk(
                device_id=device, host_id=whose, start_ms=start_ms, end_ms=int(hour.times_ms.max()),
                n_values=hour.n_values, body=body,
            )  # fmt: skip
            made.append(_Made(chunk, bytes(before.body) if before else None))
    return made


def _whose(host: Host, before: Chunk | None, moves: Sequence[Stay], start_ms: int) -> int:
    """Return under which host a chunk stands: of several that of the last, as older names of a machine may be removed.

    A recording comes first: no age takes away what that holds.
    """
    if host.origin == Origin.IMPORTED:
        return host.pk
    if before is not None and (before.host.origin == Origin.IMPORTED or not moves):
        return before.host_id
    then = [stay.host_id for stay in moves if stay.from_ms < start_ms + HOUR_MS and stay.until_ms > start_ms]
    return then[-1] if then else host.pk


def _there(stored: StoredBatches, devices: Collection[int]) -> QuerySet[Chunk]:
    first, last = stored.span_ms
    rows = Chunk.objects.filter(device__in=devices, start_ms__gte=first // HOUR_MS * HOUR_MS, start_ms__lte=last)
    return rows.select_related("host")


def _decoded(row: Chunk, uuid: str) -> chunks.DeviceHour:
    try:
        return chunks.decode(bytes(row.body))
    except chunks.ChunkCorrupt as error:
        chunks.warn_corrupt(uuid, row.start_ms, error)
        unreadable.note([unreadable.of_chunk(row.host_id, uuid, row.start_ms, error)], timezone.now())
        raise chunks.ChunkCorrupt(f"{uuid} at {row.start_ms}") from error


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
def _write(hour: _Hour, made: Sequence[_Made]) -> None:
    hour.check(hour.stored.rows)
    Chunk.objects.bulk_create(each.chunk for each in made if each.before is None)
    for chunk, before in made:
        if before is not None:
            fields = {"host_id": chunk.host_id, "end_ms": chunk.end_ms, "n_values": chunk.n_values, "body": chunk.body}
            same = Chunk.objects.filter(device_id=chunk.device_id, start_ms=chunk.start_ms, body=before)
            if not same.update(**fields):
                raise _ChangedMeanwhile


def _aside(stored: StoredBatches, held: Holding) -> list[SetAside]:
    """Return what of the batches is in no chunk: they are kept whole, with the reason."""
    now, found = timezone.now(), []
    for row, cells in zip(stored.rows, stored.cells, strict=True):
        if cells is None:
            reason, n_values = "it cannot be read", 0
        else:
            others = {uuid: n for uuid, n in cells.items() if not held.covers(uuid, row.start_ms, row.end_ms)}
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
def _keep_aside(hour: _Hour, aside: Sequence[SetAside]) -> None:
    if aside:
        hour.check(hour.stored.rows)
        SetAside.objects.bulk_create(aside, ignore_conflicts=True)


@transaction.atomic
def _remove(hour: _Hour, rows: Sequence[StoredBatch]) -> None:
    hour.check(rows)
    for epoch, first, last in _runs(rows):
        _rows(hour.host, hour.start_ms).filter(epoch=epoch, sequence__gte=first, sequence__lte=last).delete()


def _runs(rows: Sequence[StoredBatch]) -> Iterator[tuple[str, int, int]]:
    """Yield (epoch, first, last) sequences without a hole, of rows in that order: so only these go, and in few statements."""
    first = 0
    for at, row in enumerate(rows):
        is_last = at + 1 == len(rows)
        if is_last or (rows[at + 1].epoch, rows[at + 1].sequence) != (row.epoch, row.sequence + 1):
            yield row.epoch, rows[first].sequence, row.sequence
            first = at + 1
