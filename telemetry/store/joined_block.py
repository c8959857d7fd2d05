"""One metric's statistics of many buckets ↔ bytes, to be compressed. Called by store/statistics.py alone.

What a field is likely to be is taken off first: a minimum lies below the mean, a counter's last value is the one before it
and its increase. What is left is written by fields: plain or as differences from bucket to bucket, whichever is less, in
as few byte planes as it needs.
"""

import struct
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

_COUNT, _SUM, _MINIMUM, _MAXIMUM, _LAST, _INCREASE, _GREW = range(7)  # as statistics.Field has them
_MIXED = frozenset({_SUM, _MINIMUM, _MAXIMUM, _LAST, _INCREASE})  # multiples of the metric's own unit
_GUESSED = frozenset({_MINIMUM, _MAXIMUM, _LAST, _GREW})
_UNIT = struct.Struct("<q")


class _Layout(NamedTuple):
    """The rows of a block by field. `sums`, `increases` and `counts` are where guesses come from; None where there is none."""

    groups: list[tuple[int, slice]]
    counts: slice | None
    sums: slice | None
    increases: slice | None


@lru_cache(maxsize=4096)
def _layout(fields: bytes) -> _Layout:
    """A guess needs the other field of each series: where some series lack it, nothing is guessed."""
    found = np.frombuffer(fields, np.int64)
    begins = np.flatnonzero(np.diff(found, prepend=-1)).tolist()
    groups = [
        (int(found[begin]), slice(begin, end)) for begin, end in zip(begins, [*begins[1:], found.size], strict=True)
    ]
    by_field = dict(groups)
    sizes = {field: rows.stop - rows.start for field, rows in groups if field <= _GREW}
    is_regular = len(set(sizes.values())) == 1
    sources = [by_field.get(field) if is_regular else None for field in (_COUNT, _SUM, _INCREASE)]
    return _Layout(groups, *sources)


def pack(fields: Whole, values: Whole) -> bytes:
    """Return `values (r, n)` of the rows' `fields (r,)`, which stand in order, as bytes."""
    layout = _layout(fields.tobytes())
    mixed = [rows for field, rows in layout.groups if field in _MIXED]
    unit = max(1, int(np.gcd.reduce([int(np.gcd.reduce(values[rows], axis=None)) for rows in mixed] or [1])))
    units = values.copy()
    for rows in mixed:
        units[rows] //= unit
    head, planes = [_UNIT.pack(unit)], []
    for field, rows in layout.groups:
        left = units[rows] - _guess(layout, units, field, rows)
        differences = np.diff(left, axis=1, prepend=0)
        is_less = _weight(differences) < _weight(left)
        coded = _zigzag(differences if is_less else left)
        width = (int(coded.max(initial=0)).bit_length() + 7) // 8
        head.append(bytes([is_less, width]))
        planes.append(np.ascontiguousarray(coded.reshape(-1, 1).view(np.uint8)[:, :width].T).tobytes())
    return b"".join(head + planes)


class _Written(NamedTuple):
    """How a field's rows are written, and where they stand among those that are read; None where they are not."""

    field: int
    size: int
    is_less: int
    width: int
    rows: slice | None


def unpack(raw: bytes, fields: Whole, n: int, wanted: Collection[int] | None = None) -> Whole:
    """Return `values (r, n)`, of the `wanted` fields alone where some are named. Raises ValueError where the bytes do not fit."""
    layout = _layout(fields.tobytes())
    if wanted is not None and not _GUESSED.isdisjoint(wanted):  # from the values of others
        return unpack(raw, fields, n)[np.isin(fields, list(wanted))]
    (unit,) = _UNIT.unpack_from(raw)
    written = list(_written(layout, raw[_UNIT.size : _UNIT.size + 2 * len(layout.groups)], wanted))
    values = _decoded(raw, written, n)
    for each in written:
        if each.rows is not None and each.is_less:
            np.cumsum(values[each.rows], axis=1, out=values[each.rows])
    if wanted is None:
        _restore(layout, values)
    if unit != 1:
        for each in written:
            if each.rows is not None and each.field in _MIXED:
                values[each.rows] *= unit
    return values


def _written(layout: _Layout, ways: bytes, wanted: Collection[int] | None) -> Iterator[_Written]:
    first = 0
    for (field, rows), is_less, width in zip(layout.groups, ways[::2], ways[1::2], strict=True):
        size = rows.stop - rows.start
        is_read = wanted is None or field in wanted
        yield _Written(field, size, is_less, width, slice(first, first + size) if is_read else None)
        first += size if is_read else 0


def _decoded(raw: bytes, written: Sequence[_Written], n: int) -> Whole:
    """Return the rows that are read as they are written: plain, or as differences."""
    n_rows = sum(each.size for each in written if each.rows is not None)
    at, values = _UNIT.size + 2 * len(written), np.zeros((n_rows, n), np.int64)
    for each in written:
        n_bytes = each.width * each.size * n
        if each.rows is not None and each.width:
            planes = np.frombuffer(raw, np.uint8, n_bytes, at).reshape(each.width, -1)
            values[each.rows] = _whole(planes).reshape(each.size, n)
        at += n_bytes
    if at != len(raw):
        raise ValueError(f"a block of {len(raw)} bytes where {at} are stated")
    return values


def _whole(planes: NDArray[np.uint8]) -> NDArray[np.signedinteger]:
    """Return the zigzag integers `(m,)` whose bytes are `planes (w, m)`, the lowest first.

    Plane by plane, and in words of half the length where these hold them: turned as a whole they took seven times as long.
    """
    n_bytes = 4 if len(planes) <= 4 else 8
    words = np.zeros((planes.shape[1], n_bytes), np.uint8)
    for place, plane in enumerate(planes):
        words[:, place] = plane
    coded = words.view(f"<u{n_bytes}")[:, 0]
    signs = coded & 1
    np.negative(signs, out=signs)
    coded >>= 1
    coded ^= signs
    return coded.view(f"<i{n_bytes}")


def _guess(layout: _Layout, values: Whole, field: int, rows: slice) -> Whole | int:
    """Return what the rows of a field are likely to be, from the values of other fields and of the bucket before."""
    if layout.counts is None:
        return 0
    if field == _GREW:
        return values[layout.counts]
    if layout.sums is not None and field in {_MINIMUM, _MAXIMUM, _LAST}:
        means: Whole = values[layout.sums] // np.maximum(values[layout.counts], 1)
        return means
    if layout.increases is not None and field == _LAST:
        likely = np.zeros_like(values[rows])
        likely[:, 1:] = values[rows, :-1] + values[layout.increases, 1:]
        return likely
    return 0


def _restore(layout: _Layout, values: Whole) -> None:
    """Put back what was likely, in place. What it is guessed from was not guessed itself, but for a counter's last value."""
    means = None
    for field, rows in layout.groups:
        if layout.counts is None:
            return
        if field == _GREW:
            values[rows] += values[layout.counts]
        elif layout.sums is not None and field in {_MINIMUM, _MAXIMUM, _LAST}:
            if means is None:
                means = values[layout.sums] // np.maximum(values[layout.counts], 1)
            values[rows] += means
        elif layout.increases is not None and field == _LAST:
            values[rows, 1:] += values[layout.increases, 1:]
            np.cumsum(values[rows], axis=1, out=values[rows])


def _weight(values: Whole) -> float:
    return float(np.log2(np.abs(values).astype(np.float64) + 1).sum())


def _zigzag(values: Whole) -> NDArray[np.uint64]:
    return ((values << 1) ^ (values >> 63)).view(np.uint64)
