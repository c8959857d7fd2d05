"""The bytes of StepChunk.body ↔ steps as columns, nothing lost. Called by the step store and a migration. No Django.

A body is CRC-32 of all that follows; version and length of the head; the head, a msgpack map; the columns' bytes, one after
another. The head says where each column stands, so that reading some leaves the others as they are. A column is absent
(nothing is told), one value, or pcodec's. `ended_ms` stands as whole microseconds where that is exact.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from training.steps import columns as step_columns
from training.steps.columns import DTYPES, MAY_LACK, NAMES, StepColumns

VERSION = 1
ALWAYS = ("rank", "ended_ms")  # what the order of the steps goes by
_CHECKSUM, _PRELUDE = struct.Struct("<I"), struct.Struct("<BI")
_PHASE = "phase:"
_MICROSECONDS = "ended_us"
_CONSTANT, _PCODEC = range(2)
_WRITTEN_AS = {"is_warmup": np.int16, "kind": np.int16}  # pcodec writes no integers of 8 bits
_config = ChunkConfig(compression_level=8)

Column = NDArray[Any]


class BodyCorrupt(ValueError):
    """The bytes are not a body's, or not what was written."""


def encode(steps: StepColumns) -> bytes:
    """Return the body of at least one step."""
    rows: dict[str, list[Any]] = {}
    bodies: list[bytes] = []
    for name, values in _written(steps):
        if (values == values[0]).all():
            rows[name] = [_CONSTANT, values.dtype.str, values[:1].tobytes()]
            continue
        bodies.append(standalone.simple_compress(np.ascontiguousarray(values), _config))
        rows[name] = [_PCODEC, values.dtype.str, len(bodies[-1])]
    head: bytes = msgpack.packb({"n": len(steps), "columns": rows})
    rest = b"".join((_PRELUDE.pack(VERSION, len(head)), head, *bodies))
    return _CHECKSUM.pack(zlib.crc32(rest)) + rest


def decode(body: bytes, wanted: Collection[str] | None = None) -> StepColumns:
    """Return the steps, sorted; with `wanted` only those columns, and "phases" for all phases. Raises BodyCorrupt.

    What is not wanted reads as if it were not told.
    """
    head, columns_at = _head(body)
    n_steps: int = head["n"]
    columns: dict[str, Column] = {}
    phases: dict[str, Column] = {}
    at = columns_at
    for name, (way, dtype, told) in head["columns"].items():
        length = told if way == _PCODEC else 0
        if _is_wanted(name, wanted):
            values = _column(way, dtype, body[at : at + length] if way == _PCODEC else told, n_steps)
            if name.startswith(_PHASE):
                phases[name.removeprefix(_PHASE)] = values
            elif name == _MICROSECONDS:
                columns["ended_ms"] = values / 1000
            else:
                columns[name] = values
        at += length
    return step_columns.of_arrays(columns, phases)


def _written(steps: StepColumns) -> Iterator[tuple[str, Column]]:
    microseconds = np.rint(steps.ended_ms * 1000).astype(np.int64)
    if (microseconds / 1000 == steps.ended_ms).all():
        yield _MICROSECONDS, microseconds
    else:
        yield "ended_ms", steps.ended_ms
    for name in NAMES:
        if name != "ended_ms":
            values = getattr(steps, name)
            if name not in MAY_LACK or not np.isnan(values).all():
                yield name, values.astype(_WRITTEN_AS.get(name, DTYPES[name]), copy=False)
    for name, values in steps.phases.items():
        if not np.isnan(values).all():
            yield _PHASE + name, values


def _head(body: bytes) -> tuple[dict[str, Any], int]:
    begin = _CHECKSUM.size + _PRELUDE.size
    if len(body) < begin or _CHECKSUM.unpack_from(body)[0] != zlib.crc32(memoryview(body)[_CHECKSUM.size :]):
        raise BodyCorrupt("the checksum is wrong")
    version, length = _PRELUDE.unpack_from(body, _CHECKSUM.size)
    if version != VERSION:
        raise BodyCorrupt(f"version {version} is not known")
    return msgpack.unpackb(body[begin : begin + length]), begin + length


def _is_wanted(name: str, wanted: Collection[str] | None) -> bool:
    if wanted is None:
        return True
    if name.startswith(_PHASE):
        return "phases" in wanted
    return name in wanted or name in ALWAYS or name == _MICROSECONDS


def _column(way: int, dtype: str, told: bytes, n_steps: int) -> Column:
    if way == _CONSTANT:
        return np.broadcast_to(np.frombuffer(told, dtype), n_steps)
    found: Column = standalone.simple_decompress(told)
    return found
