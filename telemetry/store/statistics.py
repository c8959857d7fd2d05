"""The bytes of a rollup's body ↔ its statistics, all whole numbers, nothing lost. Called by the store and the rollups.

A body is VERSION, FORM and, of a fresh one (one bucket), one zstd frame: directory and values. Of a joined one: lengths, the
directory, and a frame for each metric, so that reading some metrics leaves the others as they are. Every frame has its
checksum. What a directory says is the same from bucket to bucket: it is read once.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.message.frames import Compressor, Decompressor
from telemetry.store import joined_block

VERSION: Final = 1
ENERGY: Final = 0  # the metric number under which a device's energy stands; the catalogue's begin with 1
_FRESH, _JOINED = 0, 1
_OWNER_BITS = 44  # ids of hosts, devices and groups are given one by one
_HEAD = struct.Struct("<BBHHI")  # version, form, buckets, devices, sections
_fresh, _hard = Compressor(1, write_checksum=True), Compressor(15, write_checksum=True)
_decompressor = Decompressor()

Whole = NDArray[np.int64]


class Field(IntEnum):
    """What a row of values is. In steps of the metric's resolution, where no other unit is named."""

    COUNT = 0  # samples; of a group: devices
    SUM = 1
    MINIMUM = 2
    MAXIMUM = 3
    LAST = 4
    INCREASE = 5  # of counters, resets left out
    GREW = 6  # how many differences the increase is the sum of; 0: the increase is unknown
    MILLISECONDS = 7  # at the value that is the row's argument
    MEASURED_MILLIJOULES = 8
    ESTIMATED_MILLIJOULES = 9
    COVERED_MILLISECONDS = 10
    P10 = 11  # across a group's devices
    P50 = 12
    P90 = 13
    IDLE_MILLIJOULES = (
        14  # wasted by who had the device, in quarters and hours: store/idle_quarters.py names the arguments
    )
    IDLE_MILLISECONDS = 15
    GREW_MILLISECONDS = 16  # how long the differences last that GREW counts: what an increase is a rate of
    CHARGED_MILLIJOULES = 17  # of a group of hosts, what is paid for: argument 1 by the nodes' meters, 0 by the devices


class RollupCorrupt(ValueError):
    """The bytes are not a rollup's, or not what was written."""


class Keys(NamedTuple):
    """What each row of values is: `(k,)` each, in order of number, field, argument and owner. No two rows are the same.

    `owners` are device ids (of a group: 0); `counts (k,)` is the row of the same series' COUNT, -1 where there is none.
    """

    numbers: Whole
    fields: Whole
    arguments: Whole
    owners: Whole
    counts: Whole

    @classmethod
    def of(cls, numbers: Whole, fields: Whole, arguments: Whole, owners: Whole) -> "Keys":
        """Return keys that stand in order already."""
        series = numbers << _OWNER_BITS | owners
        rows = np.flatnonzero(fields == Field.COUNT)  # ascending by number and owner, as all keys are
        if not rows.size:
            return cls(numbers, fields, arguments, owners, np.full(numbers.size, -1, np.int64))
        at = np.minimum(np.searchsorted(series[rows], series), rows.size - 1)
        return cls(numbers, fields, arguments, owners, np.where(series[rows[at]] == series, rows[at], -1))

    @property
    def table(self) -> Whole:
        return np.stack((self.numbers, self.fields, self.arguments, self.owners), axis=1)


class Statistics(NamedTuple):
    """`values (k, n)` of `n` buckets of `step_ms`; where a series' COUNT is 0, its other values say nothing and are 0."""

    keys: Keys
    start_ms: int
    step_ms: int
    values: Whole

    @property
    def starts_ms(self) -> Whole:
        return self.start_ms + self.step_ms * np.arange(self.values.shape[1], dtype=np.int64)

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.step_ms * int(self.values.shape[1])

    def between(self, start_ms: int, end_ms: int) -> "Statistics":
        """Return the buckets that begin in start ≤ time < end."""
        first = max(0, -(-(start_ms - self.start_ms) // self.step_ms))
        last = max(first, -(-(end_ms - self.start_ms) // self.step_ms))
        return self._replace(start_ms=self.start_ms + first * self.step_ms, values=self.values[:, first:last])


def parts_of_step(number: int) -> int:
    """Return into how many parts a group's sums and percentiles divide a step: means of whole steps are no whole steps."""
    return 1000 if catalog.BY_NUMBER[number].resolution < 1 else 1


def ordered(keys: Whole, values: Whole, start_ms: int, step_ms: int) -> Statistics:
    """Return the statistics of rows in any order: `keys (k, 4)` are number, field, argument, owner; `values (k, n)`."""
    order = np.lexsort((keys[:, 3], keys[:, 2], keys[:, 1], keys[:, 0]))
    numbers, fields, arguments, owners = np.ascontiguousarray(keys[order].T)
    return Statistics(interned(numbers, fields, arguments, owners), start_ms, step_ms, values[order])


def together(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of different devices over the same buckets as one."""
    if len(parts) == 1:
        return parts[0]
    keys, values = np.concatenate([each.keys.table for each in parts]), np.concatenate([each.values for each in parts])
    return ordered(keys, values, parts[0].start_ms, parts[0].step_ms)


def interned(numbers: Whole, fields: Whole, arguments: Whole, owners: Whole) -> Keys:
    """Return the keys, which stand in order already; equal ones are the same object."""
    return _keys(numbers.tobytes(), fields.tobytes(), arguments.tobytes(), owners.tobytes())


@lru_cache(maxsize=4096)
def _keys(numbers: bytes, fields: bytes, arguments: bytes, owners: bytes) -> Keys:
    return Keys.of(*(np.frombuffer(column, np.int64) for column in (numbers, fields, arguments, owners)))


# Bytes ---------------------------------------------------------------------------------------------------------


def encode_fresh(found: Statistics) -> bytes:
    """Return the body of one bucket: quick to write, for the hour until it is joined."""
    directory = _directory(found.keys)
    planes = np.ascontiguousarray(found.values.reshape(-1, 1).view(np.uint8).T)
    return _head(_FRESH, found) + _fresh.compress(directory.raw + planes.tobytes())


def encode_joined(found: Statistics) -> bytes:
    """Return the body of many buckets: slow to write, small, and read metric by metric."""
    directory = _hard.compress(_directory(found.keys).raw)
    blocks = [
        _hard.compress(joined_block.pack(found.keys.fields[rows], found.values[rows])) for rows in _blocks(found.keys)
    ]
    lengths = np.array([len(directory), *(len(block) for block in blocks)], "<u4")
    return b"".join([_head(_JOINED, found), struct.pack("<H", len(blocks)), lengths.tobytes(), directory, *blocks])


def _head(form: int, found: Statistics) -> bytes:
    directory = _directory(found.keys)
    return _HEAD.pack(VERSION, form, found.values.shape[1], directory.n_owners, directory.n_sections)


class Wanted(NamedTuple):
    """What is read of a body: these metric numbers, and of them these fields; None is all."""

    numbers: frozenset[int] | None = None
    fields: frozenset[int] | None = None

    def rows(self, keys: Keys) -> Whole:
        kept = np.ones(keys.numbers.size, np.bool_)
        for column, named in ((keys.numbers, self.numbers), (keys.fields, self.fields)):
            if named is not None:
                kept &= np.isin(column, list(named))
        return np.flatnonzero(kept)


ALL = Wanted()


class Slices(Protocol):
    """A body of which only some parts are read."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


def decode(body: Slices, start_ms: int, step_ms: int, wanted: Wanted = ALL) -> Statistics:
    """Return what is wanted of the statistics. Raises RollupCorrupt."""
    try:
        body = memoryview(body) if isinstance(body, bytes) else body
        version, form, n_buckets, n_owners, n_sections = _HEAD.unpack(body[: _HEAD.size])
        if version != VERSION:
            raise RollupCorrupt(f"version {version} is not known")
        if form == _FRESH:
            return _decode_fresh(body, start_ms, step_ms, (n_owners, n_sections), wanted)
        keys, values = _decode_joined(body, n_buckets, (n_owners, n_sections), wanted)
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise RollupCorrupt(str(error)) from error
    return Statistics(keys, start_ms, step_ms, values)


def _decode_fresh(body: Slices, start_ms: int, step_ms: int, shape: tuple[int, int], wanted: Wanted) -> Statistics:
    raw = _decompressor.decompress(body[_HEAD.size :])
    n_directory = _directory_size(*shape)
    keys, rows = _read_directory(raw[:n_directory], *shape, wanted)
    planes = np.frombuffer(raw, np.uint8, offset=n_directory).reshape(8, -1)
    picked = planes if rows is None else planes[:, rows]
    return Statistics(keys, start_ms, step_ms, np.ascontiguousarray(picked.T).view(np.int64))


def _decode_joined(body: Slices, n_buckets: int, shape: tuple[int, int], wanted: Wanted) -> tuple[Keys, Whole]:
    (n_blocks,) = struct.unpack("<H", body[_HEAD.size : _HEAD.size + 2])
    first = _HEAD.size + 2 + 4 * (n_blocks + 1)
    lengths = np.frombuffer(body[_HEAD.size + 2 : first], "<u4", n_blocks + 1).astype(np.int64)
    ends = (np.cumsum(lengths) + first).tolist()
    if ends[-1] != len(body):
        raise RollupCorrupt(f"{len(body)} bytes where {ends[-1]} are stated")
    keys, blocks = _read_joined(bytes(body[first : ends[0]]), *shape, wanted)
    if len(blocks) != n_blocks:
        raise RollupCorrupt(f"{n_blocks} blocks where the directory has {len(blocks)}")
    found = [
        joined_block.unpack(_decompressor.decompress(body[begin:end]), fields, n_buckets, wanted.fields)
        for fields, begin, end in zip(blocks, ends[:-1], ends[1:], strict=True)
        if fields is not None
    ]
    if len(found) == 1:
        return keys, found[0]
    return keys, np.concatenate([np.empty((0, n_buckets), np.int64), *found])


# Directories ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _blocks_of(numbers: bytes) -> list[slice]:
    begins = np.flatnonzero(np.diff(np.frombuffer(numbers, np.int64), prepend=-1)).tolist()
    ends = [*begins[1:], len(numbers) // 8] if begins else []  # a group of which nothing is known has no rows
    return [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]


def _blocks(keys: Keys) -> list[slice]:
    return _blocks_of(keys.numbers.tobytes())


def _sections(keys: Keys) -> Whole:
    """Return the first rows of each (number, field, argument)."""
    triples = np.stack((keys.numbers, keys.fields, keys.arguments))
    return np.flatnonzero((np.diff(triples, axis=1, prepend=np.iinfo(np.int64).min) != 0).any(axis=0))


class _Directory(NamedTuple):
    raw: bytes
    n_owners: int
    n_sections: int


def _directory(keys: Keys) -> _Directory:
    return _made_directory(*(column.tobytes() for column in keys[:4]))


@lru_cache(maxsize=4096)
def _made_directory(*columns: bytes) -> _Directory:
    """Return owners, then number, field, argument of each section, then which of the owners each has, in bits."""
    keys = _keys(*columns)
    owners, places = np.unique(keys.owners, return_inverse=True)
    begins = _sections(keys)
    section = np.zeros(keys.numbers.size, np.int64)
    section[begins[1:]] = 1
    masks = np.zeros((begins.size, owners.size), np.bool_)
    masks[section.cumsum(), places] = True
    parts = (
        owners.astype("<i8"), keys.numbers[begins].astype("<u2"), keys.fields[begins].astype("<u1"),
        keys.arguments[begins].astype("<i8"), np.packbits(masks, axis=1),
    )  # fmt: skip
    return _Directory(b"".join(part.tobytes() for part in parts), owners.size, begins.size)


def _directory_size(n_owners: int, n_sections: int) -> int:
    return 8 * n_owners + n_sections * (2 + 1 + 8 + (n_owners + 7) // 8)


@lru_cache(maxsize=8192)
def _read_joined(frame: bytes, n_owners: int, n_sections: int, wanted: Wanted) -> tuple[Keys, list[Whole | None]]:
    """Return the keys of what is wanted of a joined body, and the fields of the rows of each block; None where none is."""
    raw = _decompressor.decompress(frame)
    whole, _ = _read_directory(raw, n_owners, n_sections, ALL)
    keys, _ = _read_directory(raw, n_owners, n_sections, wanted)
    is_wanted = (wanted.numbers is None or int(whole.numbers[rows.start]) in wanted.numbers for rows in _blocks(whole))
    fields = (whole.fields[rows] for rows in _blocks(whole))
    return keys, [each if is_read else None for each, is_read in zip(fields, is_wanted, strict=True)]


@lru_cache(maxsize=8192)
def _read_directory(raw: bytes, n_owners: int, n_sections: int, wanted: Wanted) -> tuple[Keys, Whole | None]:
    """Return the keys of what is wanted, and which rows of all they are; None is all of them."""
    if len(raw) != _directory_size(n_owners, n_sections):
        raise RollupCorrupt("the directory has another size than is stated")
    at, columns = 0, []
    for kind, n in (("<i8", n_owners), ("<u2", n_sections), ("<u1", n_sections), ("<i8", n_sections)):
        columns.append(np.frombuffer(raw, kind, n, at).astype(np.int64))
        at += columns[-1].size * np.dtype(kind).itemsize
    owners, numbers, fields, arguments = columns
    bits = np.frombuffer(raw, np.uint8, offset=at).reshape(n_sections, (n_owners + 7) // 8)
    section, place = np.nonzero(np.unpackbits(bits, axis=1, count=n_owners))
    keys = interned(numbers[section], fields[section], arguments[section], owners[place])
    if wanted == ALL:
        return keys, None
    rows = wanted.rows(keys)
    picked = keys.table[rows].T
    return interned(*np.ascontiguousarray(picked)), rows
