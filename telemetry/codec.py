"""Columns of samples ↔ bytes, version 2: integers of the metric's resolution, in as few bits each as a metric needs.

The agent encodes, the ingest and the store decode; nothing is lost. No Django, no numpy (the agent does without).

A body is a row of blocks, one a metric, by ascending number. A block is the metric's number (varint), a byte of flags, the
bits of presence where the flags say so, and then the readings, device by device: as one run of integers (integers.py), or
as two, the devices' first readings and all differences from the reading before. So what is constant costs 4 bytes. A block
depends on an earlier one by its presence only: a reader skips what it does not want.
"""

from collections.abc import Container, Iterable, Sequence
from itertools import accumulate, pairwise

from telemetry.integers import BlockInvalid, Reader, put_run, put_varint

__all__ = ["MAX_CELLS", "BlockInvalid", "Series", "decode", "encode"]

MAX_CELLS = 2_000_000  # bounds what a foreign message can make the server allocate
_WHOLE, _AS_BEFORE, _BY_DEVICE, _BY_CELL = range(4)  # presence: all there; as where it was last told; a bit for each
_DIFFERENCES = 0b100
_HEAD_BITS = 24  # what a second run costs beside its integers
_LIMIT = 2**63

Series = Sequence[int | None]


def encode(blocks: Iterable[tuple[int, Sequence[Series]]]) -> bytes:
    """Return the body of (metric number, readings by device) in ascending order of the numbers.

    Each device's readings are `(n_ticks,)` integers between -2**63 and 2**63, None where absent.
    """
    body, last_told = bytearray(), (_WHOLE, b"")
    for number, series in blocks:
        counts = [len(values) - values.count(None) for values in series]
        told = _presence_of(series, counts)
        runs = _runs(_present(series, counts))
        put_varint(body, number)
        flags = _DIFFERENCES if len(runs) == 2 else 0
        if told[0] == _WHOLE:
            body.append(flags)
        elif told == last_told:
            body.append(flags | _AS_BEFORE)
        else:
            body.append(flags | told[0])
            body += told[1]
            last_told = told
        for run in runs:
            put_run(body, run)
    return bytes(body)


def decode(
    body: bytes, *, n_devices: int, n_ticks: int, wanted: Container[int] | None = None
) -> dict[int, list[list[int | None]]]:
    """Return by metric number each device's readings, `(n_ticks,)`; with `wanted` only those metrics.

    Raises BlockInvalid where the bytes do not fit the shape.
    """
    reader, found = Reader(body), {}
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


def _presence_of(series: Sequence[Series], counts: list[int]) -> tuple[int, bytes]:
    """Return the kind of presence and its bits, the first device's lowest."""
    ticks = len(series[0]) if series else 0
    if counts.count(ticks) == len(counts):
        return _WHOLE, b""
    if counts.count(ticks) + counts.count(0) == len(counts):
        return _BY_DEVICE, _bits_of([count > 0 for count in counts])
    return _BY_CELL, _bits_of([value is not None for values in series for value in values])


def _bits_of(truths: list[bool]) -> bytes:
    bits = int("".join("1" if truth else "0" for truth in reversed(truths)), 2)
    return bits.to_bytes((len(truths) + 7) // 8, "little")


def _present(series: Sequence[Series], counts: list[int]) -> list[Sequence[int]]:
    """Return each device's readings without the gaps; a device without any is left out."""
    return [
        values if count == len(values) else [value for value in values if value is not None]  # type: ignore[misc]
        for values, count in zip(series, counts, strict=True)
        if count
    ]


def _runs(present: list[Sequence[int]]) -> list[list[int]]:
    """Return the readings in the form that is likely to be the shorter one: steps would shorten both alike."""
    plain = [value for values in present for value in values]
    spread = _spread_bits(plain)
    if not spread:
        return [plain]
    firsts = [values[0] for values in present]
    differences = [later - earlier for values in present for earlier, later in pairwise(values)]
    bits = _spread_bits(firsts) * len(firsts) + _spread_bits(differences) * len(differences)
    return [plain] if spread * len(plain) <= bits + _HEAD_BITS else [firsts, differences]


def _spread_bits(values: list[int]) -> int:
    return (max(values) - min(values)).bit_length() if values else 0


class _Presence:
    """Which readings are there: `masks` has a bit a tick (the first lowest) for each device."""

    def __init__(self, masks: list[int]) -> None:
        self.masks = masks
        self.counts = [mask.bit_count() for mask in masks]
        self.n_cells = sum(self.counts)
        self.n_devices = sum(count > 0 for count in self.counts)


def _read_presence(reader: Reader, kind: int, n_devices: int, n_ticks: int) -> _Presence:
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
    values, at = (runs[0] if len(runs) == 1 else _summed(runs, presence)), 0
    for mask, count in zip(presence.masks, presence.counts, strict=True):
        part = values[at : at + count]
        series.append([*part] if count == n_ticks else _with_gaps(part, mask, n_ticks))
        at += count
    return series


def _summed(runs: list[list[int]], presence: _Presence) -> list[int]:
    """Return the readings of all devices, one after another, from their first ones and the differences."""
    firsts, differences = runs
    values: list[int] = []
    at = 0
    for first, count in zip(firsts, filter(None, presence.counts), strict=True):
        values += accumulate(differences[at : at + count - 1], initial=first)
        at += count - 1
    if values and (min(values) <= -_LIMIT or max(values) >= _LIMIT):
        raise BlockInvalid("a reading is too large")
    return values


def _with_gaps(values: list[int], mask: int, n_ticks: int) -> list[int | None]:
    if not values:
        return [None] * n_ticks
    following = iter(values)
    return [next(following) if bit == "1" else None for bit in f"{mask:0{n_ticks}b}"[::-1]]
