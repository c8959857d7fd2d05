"""Columns of samples ↔ bytes, version 2: integers of the metric's resolution, in as few bits each as a metric needs.

The agent encodes, the ingest and the store decode; nothing is lost. No Django, no numpy (the agent does without).

A body is a row of blocks, one a metric, by ascending number. A block is the metric's number (varint), a byte of flags, the
bits of presence where the flags say so, and then the readings, device by device: as one run of integers, or as two, the
devices' first readings and all differences from the reading before. A run is the least of its integers (zigzag varint)
and their width in bits (a byte); where that is not 0, the step (varint), and of each integer how many steps it lies above
the least. So what is constant costs 4 bytes, and a clock that moves by 15 MHz a few bits. A block depends on an earlier
one by its presence only: a reader skips what it does not want.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import gcd

MAX_CELLS = 2_000_000  # bounds what a foreign message can make the server allocate
_WHOLE, _AS_BEFORE, _BY_DEVICE, _BY_CELL = range(4)  # presence: all there; as where it was last told; a bit for each
_DIFFERENCES = 0b100
_GROUP = 64  # integers packed at a time: one integer of all bits would cost its length for each of them
_VARINT_BITS, _MAX_WIDTH, _LIMIT = 70, 66, 2**63

Series = Sequence[int | None]


class BlockInvalid(ValueError):
    """The bytes are not a body of the stated shape."""


def encode(blocks: Iterable[tuple[int, Sequence[Series]]]) -> bytes:
    """Return the body of (metric number, readings by device) in ascending order of the numbers.

    Each device's readings are `(n_ticks,)` integers between -2**63 and 2**63, None where absent.
    """
    body, last_told = bytearray(), b""
    for number, series in blocks:
        present = [[value for value in values if value is not None] for values in series]
        flags, mask = _told_presence(series, [len(values) for values in present])
        if mask and last_told == bytes((flags,)) + mask:
            flags, mask = _AS_BEFORE, b""
        elif mask:
            last_told = bytes((flags,)) + mask
        runs = _runs([values for values in present if values])
        _put_varint(body, number)
        body.append(flags | (_DIFFERENCES if len(runs) == 2 else 0))
        body += mask
        for run in runs:
            run.put(body)
    return bytes(body)


def decode(
    body: bytes, *, n_devices: int, n_ticks: int, wanted: Container[int] | None = None
) -> dict[int, list[list[int | None]]]:
    """Return by metric number each device's readings, `(n_ticks,)`; with `wanted` only those metrics.

    Raises BlockInvalid where the bytes do not fit the shape.
    """
    reader, found = _Reader(body), {}
    whole = _Presence([(1 << n_ticks) - 1] * n_devices)
    last_told, last_number, cells = whole, -1, 0
    while reader.at < len(body):
        number, flags = reader.varint(), reader.byte()
        cells += n_devices * n_ticks
        if number <= last_number or flags > (_DIFFERENCES | _BY_CELL) or cells > MAX_CELLS:
            raise BlockInvalid(f"block {number}: out of order, of unknown form, or more than {MAX_CELLS} cells in all")
        last_number, kind = number, flags & 0b11
        if kind >= _BY_DEVICE:
            last_told = _read_presence(reader, kind, n_devices, n_ticks)
        presence = whole if kind == _WHOLE else last_told
        lengths = (
            [presence.n_devices, presence.n_cells - presence.n_devices] if flags & _DIFFERENCES else [presence.n_cells]
        )
        if wanted is None or number in wanted:
            limits = (_LIMIT, 2 * _LIMIT)  # a difference may be larger than what it lies between
            runs = [reader.run(n, limit) for n, limit in zip(lengths, limits, strict=False)]
            found[number] = _placed(runs, presence, n_ticks)
        else:
            for n in lengths:
                reader.skip_run(n)
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    least: int
    width: int
    step: int
    above: list[int]

    @property
    def bits(self) -> int:
        return len(self.above) * self.width

    def put(self, body: bytearray) -> None:
        _put_varint(body, self.least << 1 if self.least >= 0 else (-self.least << 1) - 1)
        body.append(self.width)
        if self.width:
            _put_varint(body, self.step)
            _put_bits(body, self.above, self.width)


def _runs(present: list[list[int]]) -> list[_Run]:
    """Return the shorter of the two ways to write the readings."""
    plain = _run([value for values in present for value in values])
    if not plain.width:
        return [plain]
    firsts = _run([values[0] for values in present])
    differences = _run([later - earlier for values in present for earlier, later in pairwise(values)])
    return [plain] if plain.bits <= firsts.bits + differences.bits + 8 else [firsts, differences]


def _run(values: list[int]) -> _Run:
    if not values:
        return _Run(0, 0, 1, [])
    least = min(values)
    if max(values) == least:
        return _Run(least, 0, 1, values)
    above = [value - least for value in values]
    step = gcd(*above)
    if step > 1:
        above = [value // step for value in above]
    return _Run(least, max(above).bit_length(), step, above)


def _told_presence(series: Sequence[Series], counts: list[int]) -> tuple[int, bytes]:
    """Return the kind of presence and its bits, the first device's lowest."""
    if all(count == len(values) for count, values in zip(counts, series, strict=True)):
        return _WHOLE, b""
    if all(count in {0, len(values)} for count, values in zip(counts, series, strict=True)):
        return _BY_DEVICE, _bits_of([count > 0 for count in counts])
    return _BY_CELL, _bits_of([value is not None for values in series for value in values])


def _bits_of(truths: list[bool]) -> bytes:
    text = "".join("1" if truth else "0" for truth in reversed(truths))
    return int(text, 2).to_bytes((len(truths) + 7) // 8, "little")


class _Presence:
    """Which readings are there: `masks` has a bit a tick (the first lowest) for each device."""

    def __init__(self, masks: list[int]) -> None:
        self.masks = masks
        self.counts = [mask.bit_count() for mask in masks]
        self.n_cells = sum(self.counts)
        self.n_devices = sum(count > 0 for count in self.counts)


def _read_presence(reader: "_Reader", kind: int, n_devices: int, n_ticks: int) -> _Presence:
    each = 1 if kind == _BY_DEVICE else n_ticks
    raw = reader.take((n_devices * each + 7) // 8)
    text = f"{int.from_bytes(raw, 'little'):0{n_devices * each}b}"
    if len(text) > n_devices * each:
        raise BlockInvalid("presence: bits beyond the last reading")
    starts = range(len(text) - each, -1, -each)
    masks = [int(text[start : start + each], 2) for start in starts]
    return _Presence([mask * ((1 << n_ticks) - 1) for mask in masks] if kind == _BY_DEVICE else masks)


def _placed(runs: list[list[int]], presence: _Presence, n_ticks: int) -> list[list[int | None]]:
    """Return each device's readings in their places."""
    series: list[list[int | None]] = []
    start = n_before = 0
    for mask, count in zip(presence.masks, presence.counts, strict=True):
        if not count:
            series.append([None] * n_ticks)
            continue
        if len(runs) == 1:
            values = runs[0][start : start + count]
        else:  # before this device's differences stand those of the others, one less than readings each
            at = start - n_before
            values = list(accumulate(runs[1][at : at + count - 1], initial=runs[0][n_before]))
            if min(values) <= -_LIMIT or max(values) >= _LIMIT:
                raise BlockInvalid("a reading is too large")
        start, n_before = start + count, n_before + 1
        series.append([*values] if count == n_ticks else _spread(values, mask, n_ticks))
    return series


def _spread(values: list[int], mask: int, n_ticks: int) -> list[int | None]:
    following = iter(values)
    return [next(following) if bit == "1" else None for bit in f"{mask:0{n_ticks}b}"[::-1]]


class _Reader:
    """Takes the body apart from its beginning; `at` is where it stands."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0

    def take(self, n: int) -> bytes:
        part = self._body[self.at : self.at + n]
        if len(part) != n:
            raise BlockInvalid("the body ends too early")
        self.at += n
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BlockInvalid("a number is too long")

    def run(self, n: int, limit: int) -> list[int]:
        least, width, step = self._run_head()
        values = [least] * n
        if width:
            groups = (self._bits(min(_GROUP, n - start), width) for start in range(0, n, _GROUP))
            values = [least + above * step for group in groups for above in group]
        if values and (least <= -limit or max(values) >= limit):
            raise BlockInvalid("a reading is too large")
        return values

    def skip_run(self, n: int) -> None:
        _, width, _ = self._run_head()
        self.take((n * width + 7) // 8)

    def _run_head(self) -> tuple[int, int, int]:
        coded, width = self.varint(), self.byte()
        if width > _MAX_WIDTH:
            raise BlockInvalid(f"an integer has at most {_MAX_WIDTH} bits, not {width}")
        least = coded >> 1 if coded & 1 == 0 else -((coded + 1) >> 1)
        return least, width, self.varint() if width else 1

    def _bits(self, n: int, width: int) -> list[int]:
        bits = int.from_bytes(self.take((n * width + 7) // 8), "little")
        if bits >> n * width:
            raise BlockInvalid("a run has bits beyond its last integer")
        low = (1 << width) - 1
        return [bits >> shift & low for shift in range(0, n * width, width)]


def _put_varint(body: bytearray, value: int) -> None:
    while value >= 0x80:
        body.append(value & 0x7F | 0x80)
        value >>= 7
    body.append(value)


def _put_bits(body: bytearray, values: list[int], width: int) -> None:
    for start in range(0, len(values), _GROUP):
        group, bits = values[start : start + _GROUP], 0
        for value in reversed(group):
            bits = bits << width | value
        body += bits.to_bytes((len(group) * width + 7) // 8, "little")
