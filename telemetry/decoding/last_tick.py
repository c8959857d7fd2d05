"""What many batches' bodies say at their last ticks, all bodies of one form at once; every reading is checked. No Django.

Called by the ingest, which keeps a batch as it came: of its readings it shows the last, and must know that the others can be
read. What matrix.py would refuse is refused here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry.decoding import matrix
from telemetry.decoding.matrix import Part, Steps
from telemetry.message.codec import BLOCK_HEAD, WIDTHS, BlockInvalid
from telemetry.message.frames import Decompressor

_MAX_CELLS = 200_000  # of a body: what is larger is read alone, as it takes long anyway
_MAX_SERIES, _MAX_BLOCKS, _LAYOUTS_KEPT = 4096, 16, 512  # what is kept of the layouts is 32 MB at most
_AT_ONCE = 64  # bodies: more of them leave the processor's cache
# A difference of 4 bytes is below 2**31, a block has less than 2**16 ticks: from here no sum reaches matrix.py's limit.
_LARGEST_FIRST = 2**61
_decompressor = Decompressor()

Indices = NDArray[np.int64]


class Body(NamedTuple):
    """A body as it came, and the shape that its head states."""

    frame: bytes
    n_devices: int
    n_ticks: int


class LastTick(NamedTuple):
    """Readings of the last tick: the metrics' `numbers (n,)`, the devices' `places (n,)`, `steps (n,)`; of `n_values` in all."""

    numbers: Indices
    places: Indices
    steps: Steps
    n_values: int


@dataclass(frozen=True, eq=False, slots=True)
class _Layout:
    """Which series a block holds, `(n_series,)` each, in the order of its rows."""

    numbers: Indices
    places: Indices


class _Form(NamedTuple):
    """What blocks have in common that are taken apart together."""

    layout: _Layout
    n_ticks: int
    first_bytes: int
    difference_bytes: int


class _Block(NamedTuple):
    form: _Form
    has_last: bool
    payload: bytes


class _Other(Exception):
    """This body is to be read alone."""


def of_parts(parts: Sequence[Part], n_ticks: int) -> LastTick:
    """Return the same of readings that were taken apart already."""
    last = [part for part in parts if part.ticks[-1] == n_ticks - 1]
    return LastTick(
        _end_to_end([part.numbers for part in last]),
        _end_to_end([part.places for part in last]),
        _end_to_end([part.steps[:, -1] for part in last]),
        sum(part.steps.size for part in parts),
    )


def of_bodies(bodies: Sequence[Body]) -> list[LastTick | BlockInvalid]:
    """Return what each says, or why it cannot be read."""
    blocks: dict[int, list[_Block]] = {}
    by_form: dict[_Form, list[bytes]] = {}
    for place, body in enumerate(bodies):
        try:
            found = list(_blocks(body))
            _check_apart(tuple(block.form.layout for block in found))
        except (_Other, BlockInvalid, zstandard.ZstdError):
            continue
        blocks[place] = found
        for block in found:
            by_form.setdefault(block.form, []).append(block.payload)
    decoded = {form: iter(_decoded(form, payloads)) for form, payloads in by_form.items()}
    made = {place: _last_tick(found, [next(decoded[block.form]) for block in found]) for place, found in blocks.items()}
    return [made.get(place) or _alone(body) for place, body in enumerate(bodies)]


def _alone(body: Body) -> LastTick | BlockInvalid:
    try:
        parts = matrix.of_body(body.frame, n_devices=body.n_devices, n_ticks=body.n_ticks)
    except BlockInvalid as error:
        return error
    return of_parts(parts, body.n_ticks)


def _last_tick(blocks: Sequence[_Block], steps: Sequence[Steps | None]) -> LastTick | None:
    """Return the last tick of a body's blocks and their last readings, None where a reading may be too large."""
    n_values, last = 0, []
    for block, found in zip(blocks, steps, strict=True):
        if found is None:
            return None
        n_values += found.size * block.form.n_ticks
        if block.has_last:
            last.append((block.form.layout, found))
    if len(last) == 1:
        layout, found = last[0]
        return LastTick(layout.numbers, layout.places, found, n_values)
    return LastTick(
        _end_to_end([layout.numbers for layout, _ in last]),
        _end_to_end([layout.places for layout, _ in last]),
        _end_to_end([found for _, found in last]),
        n_values,
    )


def _end_to_end(arrays: Sequence[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *arrays])


# Blocks ------------------------------------------------------------------------------------------------------------


def _blocks(body: Body) -> Iterator[_Block]:
    """Raises _Other, BlockInvalid or ZstdError where the bytes are not quickly taken apart, or not at all."""
    stated = zstandard.frame_content_size(body.frame)
    if not 0 <= stated <= 10 * _MAX_CELLS:
        raise _Other
    raw, at, cells = _decompressor.decompress(body.frame), 0, 0
    while at < len(raw):
        if at + BLOCK_HEAD.size > len(raw):
            raise _Other
        n_present, n_metrics, first_bytes, difference_bytes = BLOCK_HEAD.unpack_from(raw, at)
        at += BLOCK_HEAD.size
        if not 1 <= n_present <= body.n_ticks or first_bytes not in _FIRST_BYTES or difference_bytes not in _NARROW:
            raise _Other
        has_last = True
        if n_present != body.n_ticks:
            n_bits = (body.n_ticks + 7) // 8
            has_last = _has_last(raw[at : at + n_bits], body.n_ticks, n_present)
            at += n_bits
        n_layout = n_metrics * (2 + (body.n_devices + 7) // 8)
        layout = _layout(raw[at : at + n_layout], n_metrics, body.n_devices)
        at += n_layout
        n_series = layout.numbers.size
        n_payload = n_series * (first_bytes + difference_bytes * (n_present - 1))
        cells += n_series * n_present
        if at + n_payload > len(raw) or cells > _MAX_CELLS:
            raise _Other
        yield _Block(_Form(layout, n_present, first_bytes, difference_bytes), has_last, raw[at : at + n_payload])
        at += n_payload


_FIRST_BYTES = frozenset({0, *WIDTHS})
_NARROW = _FIRST_BYTES - {8}


def _has_last(bits: bytes, n_ticks: int, n_present: int) -> bool:
    """Tell whether the last of the ticks is there. Raises _Other where the bits do not fit."""
    there = int.from_bytes(bits, "little")
    if there.bit_count() != n_present or there >> n_ticks:
        raise _Other
    return bool(there >> (n_ticks - 1))


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _layout(raw: bytes, n_metrics: int, n_devices: int) -> _Layout:
    """Raises _Other where the bytes are none."""
    mask_bytes = (n_devices + 7) // 8
    if not 1 <= n_metrics <= _MAX_SERIES or len(raw) != n_metrics * (2 + mask_bytes):
        raise _Other
    metrics = np.frombuffer(raw, "<u2", n_metrics).astype(np.int64)
    masks = np.frombuffer(raw, np.uint8, offset=2 * n_metrics).reshape(n_metrics, mask_bytes)
    bits = np.unpackbits(masks, axis=1, bitorder="little")
    rows, places = np.nonzero(bits[:, :n_devices])
    if not 1 <= rows.size <= _MAX_SERIES or bits[:, n_devices:].any() or (np.diff(metrics) <= 0).any():
        raise _Other
    return _Layout(metrics[rows], places)


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _check_apart(layouts: tuple[_Layout, ...]) -> None:
    """Raise _Other where a series stands in two of the blocks, or there are many."""
    if len(layouts) > _MAX_BLOCKS:
        raise _Other
    series = [each for layout in layouts for each in zip(layout.numbers.tolist(), layout.places.tolist(), strict=True)]
    if len(set(series)) != len(series):
        raise _Other


# Readings ----------------------------------------------------------------------------------------------------------


def _decoded(form: _Form, payloads: Sequence[bytes]) -> Iterator[Steps | None]:
    """Yield each block's last readings, `(n_series,)`, None where one may be too large."""
    for first in range(0, len(payloads), _AT_ONCE):
        yield from _last_readings(form, payloads[first : first + _AT_ONCE])


def _last_readings(form: _Form, payloads: Sequence[bytes]) -> Iterator[Steps | None]:
    n_blocks, n_series = len(payloads), form.layout.numbers.size
    raw = np.frombuffer(b"".join(payloads), np.uint8).reshape(n_blocks, -1)
    n_first = form.first_bytes * n_series
    firsts = _summed_by_metric(_integers(raw[:, :n_first], form.first_bytes, n_series), form.layout.numbers)
    differences = _integers(raw[:, n_first:], form.difference_bytes, n_series * (form.n_ticks - 1))
    fits = np.logical_and(firsts < _LARGEST_FIRST, firsts > -_LARGEST_FIRST).min(axis=1)
    last = firsts + differences.reshape(n_blocks, n_series, -1).sum(axis=2, dtype=np.int64)
    return (found if is_fitting else None for found, is_fitting in zip(last, fits.tolist(), strict=True))


def _integers(raw: NDArray[np.uint8], width: int, n: int) -> Steps:
    """Return `(n_blocks, n)` zigzag integers of their planes, the lowest bytes first; none there are zeros."""
    if not width or not n:
        return np.zeros((raw.shape[0], n), np.int64)
    coded = np.ascontiguousarray(raw.reshape(-1, width, n).transpose(0, 2, 1)).view(f"<u{width}").reshape(-1, n)
    if width < 8:
        signed: Steps = (coded >> 1).view(f"<i{width}") ^ -(coded & 1).view(f"<i{width}")
        return signed
    whole: Steps = (coded >> 1).astype(np.int64) ^ -(coded & 1).astype(np.int64)
    return whole


def _summed_by_metric(differences: Steps, numbers: Indices) -> Steps:
    """Return the running sums along axis 1, which begin anew with each metric's first series."""
    sums: Steps = differences.cumsum(axis=1, dtype=np.int64)
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    before = sums[:, begins] - differences[:, begins]
    return sums - np.repeat(before, np.diff(begins, append=numbers.size), axis=1)
