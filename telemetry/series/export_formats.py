"""Pieces of an export → the bytes of a file, as they come: canonical CSV, which import_telemetry reads back, and Parquet.

pyarrow is imported when the first Parquet file is asked for: no other process pays for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from math import isnan
from typing import TYPE_CHECKING, Any

from telemetry.catalog import Metric
from telemetry.message.wire import DeviceKind
from telemetry.series.export import COUNT, Piece
from telemetry.store.samples import Floats

if TYPE_CHECKING:
    import pyarrow as pa

_LINES = 2000  # of one part of the stream
_GROUP_ROWS = 50_000  # of Parquet, at least
_IDENTITY = ("host", "kind", "index", "uuid")


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"

    @property
    def content_type(self) -> str:
        return "text/csv; charset=utf-8" if self is Format.CSV else "application/vnd.apache.parquet"


def stream(form: Format, pieces: Iterable[Piece], columns: Mapping[str, Metric]) -> Iterator[bytes]:
    """Yield the file's bytes; the columns are time_ms, host, kind, index, uuid and those named."""
    return _csv(pieces, columns) if form is Format.CSV else _parquet(pieces, columns)


def _identity(piece: Piece) -> tuple[str, str, str, str]:
    """Return host, kind, index and UUID. The host as a whole is the device where a row names none (canonical CSV)."""
    device = piece.device
    if device.kind == DeviceKind.NODE:
        return piece.host, device.kind, "", ""
    return piece.host, device.kind, "" if device.index is None else str(device.index), device.uuid


def _csv(pieces: Iterable[Piece], columns: Mapping[str, Metric]) -> Iterator[bytes]:
    yield (",".join(("time_ms", *_IDENTITY, *columns)) + "\n").encode()
    for piece in pieces:
        identity = ",".join(_identity(piece))  # names and UUIDs hold neither commas nor quotes
        cells = [
            _cells(piece.columns[name], is_whole=metric.resolution >= 1 or name.endswith(COUNT))
            for name, metric in columns.items()
        ]
        rows = zip(piece.times_ms.tolist(), *cells, strict=True)
        lines = [f"{at},{identity},{','.join(values)}\n" for at, *values in rows]
        for first in range(0, len(lines), _LINES):
            yield "".join(lines[first : first + _LINES]).encode()


def _cells(values: Floats, *, is_whole: bool) -> list[str]:
    """Return the shortest words that are read back as the same number; "" where there is none."""
    return [
        "" if isnan(value) else str(int(value)) if is_whole and value.is_integer() else repr(value)
        for value in values.tolist()
    ]


class _Buffer:
    """The file that pyarrow writes to: what it wrote is taken away as it comes."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, part: Any) -> int:
        written = bytes(part)
        self._parts.append(written)
        self._at += len(written)
        return len(written)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """What is left is taken afterwards."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _parquet(pieces: Iterable[Piece], columns: Mapping[str, Metric]) -> Iterator[bytes]:
    """Yield row groups of many pieces each: every one costs a part of the file's end, which stays in memory."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("time_ms", pa.timestamp("ms", tz="UTC")),
            *((name, pa.dictionary(pa.int32(), pa.string())) for name in _IDENTITY),
            *((name, pa.float64()) for name in columns),
        ]
    )
    buffer = _Buffer()
    with parquet.ParquetWriter(pa.PythonFile(buffer, mode="w"), schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for piece in pieces:
            waiting.append(_table(piece, columns, schema))
            if sum(table.num_rows for table in waiting) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
                waiting.clear()
                yield buffer.take()
        if waiting:
            writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
    yield buffer.take()


def _table(piece: Piece, columns: Mapping[str, Metric], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    n = piece.times_ms.size
    zeros = pa.array([0] * n, pa.int32())
    identity = [pa.DictionaryArray.from_arrays(zeros, pa.array([each], pa.string())) for each in _identity(piece)]
    values = [pa.array(piece.columns[name], from_pandas=True) for name in columns]  # NaN is null: missing is no number
    return pa.Table.from_arrays(
        [pa.array(piece.times_ms).cast(schema.field(0).type), *identity, *values], schema=schema
    )
