"""The bytes of Chunk.body ↔ all samples of one device over one hour, nothing lost. Called by the store's other parts.

A body is, one after another: CRC-32 of all that follows; version and length of the head; the head, a zstd frame of a
msgpack map; the bytes of the series (packing.py), one after another. The head says where each begins, so that reading one
metric leaves the others as they are. Times stand in it as what is left beside a regular beat: next to nothing where
sampling is regular.
"""

import logging
import struct
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from telemetry.decoding.matrix import Steps
from telemetry.message.frames import Compressor, Decompressor
from telemetry.store import packing
from telemetry.store.packing import Packed

logger = logging.getLogger(__name__)

HOUR_MS = 3_600_000
VERSION = 1
_CHECKSUM, _PRELUDE = struct.Struct("<I"), struct.Struct("<BI")
_compressor, _decompressor = Compressor(19), Decompressor()


class ChunkCorrupt(ValueError):
    """The bytes are not a chunk's, or not what was written."""


class Stretch(NamedTuple):
    """Samples in a row that were read on one clock, at one sampling interval. `(epoch, segment)` names the clock."""

    epoch: str
    segment: int
    sample_seconds: float
    n_ticks: int


class Series(NamedTuple):
    """One metric: `steps (n,)` of its resolution, at the device's `ticks (n,)`, ascending; None stands for all of them."""

    ticks: NDArray[np.int64] | None
    steps: Steps


@dataclass(frozen=True, slots=True)
class DeviceHour:
    """One device's samples: `times_ms (n_ticks,)` in order of the stretches, ascending within each clock; series by number."""

    stretches: tuple[Stretch, ...]
    times_ms: NDArray[np.int64]
    series: Mapping[int, Series]

    @property
    def n_values(self) -> int:
        return sum(series.steps.size for series in self.series.values())


def encode(hour: DeviceHour) -> bytes:
    """Return the body; equal samples make equal bytes."""
    sets: dict[bytes, int] = {}
    times = packing.pack(hour.times_ms - _beat(hour.stretches, _firsts(hour)))
    rows, bodies = [], [times.body]
    for number, series in sorted(hour.series.items()):
        which = -1
        if series.ticks is not None:
            which = sets.setdefault(_bits(series.ticks, hour.times_ms.size), len(sets))
        packed = packing.pack(series.steps)
        rows.append([number, which, *_row(packed)])
        bodies.append(packed.body)
    head = {
        "stretches": [
            [bytes.fromhex(each.epoch), each.segment, each.sample_seconds, each.n_ticks] for each in hour.stretches
        ],
        "firsts": _firsts(hour),
        "times": _row(times),
        "sets": list(sets),
        "series": rows,
    }
    packed_head = _compressor.compress(msgpack.packb(head))
    checked = b"".join([_PRELUDE.pack(VERSION, len(packed_head)), packed_head, *bodies])
    return _CHECKSUM.pack(zlib.crc32(checked)) + checked


def _row(packed: Packed) -> list[int]:
    return [packed.way, packed.base, packed.unit, len(packed.body)]


def decode(body: bytes, wanted: Container[int] | None = None) -> DeviceHour:
    """Return the samples of the wanted metrics, by number; None wants all. Raises ChunkCorrupt."""
    if len(body) < _CHECKSUM.size + _PRELUDE.size:
        raise ChunkCorrupt(f"{len(body)} bytes are no chunk")
    checked = memoryview(body)[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(body)[0] != zlib.crc32(checked):
        raise ChunkCorrupt("the checksum does not fit")
    version, n_head = _PRELUDE.unpack_from(checked)
    if version != VERSION:
        raise ChunkCorrupt(f"version {version} is not known")
    rest = checked[_PRELUDE.size :]
    head = msgpack.unpackb(_decompressor.decompress(rest[:n_head]))
    stretches = tuple(Stretch(bytes(epoch).hex(), *others) for epoch, *others in head["stretches"])
    n_ticks = sum(stretch.n_ticks for stretch in stretches)
    way, base, unit, n_bytes = head["times"]
    at = n_head + n_bytes
    left = packing.unpack(Packed(way, base, unit, bytes(rest[n_head:at])), n_ticks)
    series = dict(_series(head, rest[at:], n_ticks, wanted))
    return DeviceHour(stretches, left + _beat(stretches, head["firsts"]), series)


def _series(
    head: dict[str, Any], bodies: memoryview, n_ticks: int, wanted: Container[int] | None
) -> Iterator[tuple[int, Series]]:
    at = 0
    sets = [np.flatnonzero(_unbits(bits, n_ticks)) for bits in head["sets"]]
    for number, which, way, base, unit, n_bytes in head["series"]:
        if wanted is None or number in wanted:
            ticks = sets[which] if which >= 0 else None
            packed = Packed(way, base, unit, bytes(bodies[at : at + n_bytes]))
            yield number, Series(ticks, packing.unpack(packed, n_ticks if ticks is None else ticks.size))
        at += n_bytes


def _firsts(hour: DeviceHour) -> list[int]:
    begins = np.cumsum([0, *(stretch.n_ticks for stretch in hour.stretches[:-1])])
    found: list[int] = hour.times_ms[begins].tolist()
    return found


def _beat(stretches: Iterable[Stretch], firsts: Iterable[int]) -> NDArray[np.int64]:
    """Return the times that a regular beat of each stretch's interval would have given, `(n_ticks,)` ms."""
    return np.concatenate(
        [
            first + np.arange(stretch.n_ticks) * round(stretch.sample_seconds * 1000)
            for stretch, first in zip(stretches, firsts, strict=True)
        ]
    )


def _bits(ticks: NDArray[np.int64], n_ticks: int) -> bytes:
    present = np.zeros(n_ticks, np.bool_)
    present[ticks] = True
    return np.packbits(present).tobytes()


def _unbits(bits: bytes, n_ticks: int) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=n_ticks)


def warn_corrupt(uuid: str, start_ms: int, error: ChunkCorrupt) -> None:
    """Tell which hour of which device cannot be read; all others can."""
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    logger.warning("the samples of device %s of the hour from %s UTC cannot be read: %s", uuid, f"{at:%F %T}", error)
