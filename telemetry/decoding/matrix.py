"""Readings as numpy's matrices: what the store reads by the thousand. Server side only; no Django.

Values are integers, in steps of their metric's resolution, as they travel (codec.py): nothing is lost on the way to a chunk.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry import catalog
from telemetry.message.codec import BLOCK_HEAD, MAX_CELLS, WIDTHS, BlockInvalid

_MAX_BYTES = 10 * MAX_CELLS
_LARGEST = 2**62  # of two such the sum and the difference fit into 64 bits: a sum that ran over is beyond it too
_TOO_LARGE = "a reading of 2**62 steps or more"

Steps = NDArray[np.int64]


class Part(NamedTuple):
    """Series that have readings at the same ticks of a batch.

    `numbers (n_series,)` are the metrics', `places (n_series,)` the devices' in the batch, `ticks (n_ticks,)` those of the
    batch's times that these readings are of, `steps (n_series, n_ticks)` the readings.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    ticks: NDArray[np.int64]
    steps: Steps


def of_body(body: bytes, *, n_devices: int, n_ticks: int) -> list[Part]:
    """Return a body's readings. Raises BlockInvalid where the bytes do not fit the shape."""
    parts = list(_parts(Reader(_decompressed(body)), n_devices, n_ticks))
    if len(parts) > 1:
        series = np.concatenate([part.numbers * n_devices + part.places for part in parts])
        if np.unique(series).size != series.size:
            raise BlockInvalid("a series stands twice")
    return parts


def _decompressed(body: bytes) -> bytes:
    try:
        # The stated size is checked before anything is allocated for it; -1 is a frame that states none.
        stated = zstandard.get_frame_parameters(body).content_size
        if not 0 <= stated <= _MAX_BYTES:
            raise BlockInvalid(f"expected at most {_MAX_BYTES} bytes, the frame states {stated}")
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise BlockInvalid(f"cannot be decompressed ({error})") from error


class Reader:
    """Takes bytes of the codec apart from their beginning. Raises BlockInvalid where they end too early."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._raw)

    def take(self, n: int) -> bytes:
        part = self._raw[self._at : self._at + n]
        if len(part) != n:
            raise BlockInvalid("the body ends too early")
        self._at += n
        return part

    def bits(self, n_rows: int, n_columns: int) -> NDArray[np.bool_]:
        """Return `(n_rows, n_columns)`; each row begins with a new byte, its first column lowest."""
        each = (n_columns + 7) // 8
        raw = np.frombuffer(self.take(n_rows * each), np.uint8).reshape(n_rows, each)
        bits = np.unpackbits(raw, axis=1, bitorder="little")
        if bits[:, n_columns:].any():
            raise BlockInvalid("bits beyond the last tick or device")
        return bits[:, :n_columns].view(np.bool_)

    def integers(self, width: int, n: int) -> Steps:
        """Return what `codec.put_integers` wrote; `width` is 0 or one of codec.WIDTHS."""
        if not width:
            return np.zeros(n, np.int64)
        planes = np.frombuffer(self.take(width * n), np.uint8).reshape(width, n)
        coded = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(n)
        low = (coded & 1).astype(np.int64)
        return (coded >> 1).astype(np.int64) ^ -low


def _parts(reader: Reader, n_devices: int, n_ticks: int) -> Iterator[Part]:
    cells = 0
    while not reader.is_at_end:
        n_present, n_metrics, first_bytes, difference_bytes = BLOCK_HEAD.unpack(reader.take(BLOCK_HEAD.size))
        if not 1 <= n_present <= n_ticks or not n_metrics or {first_bytes, difference_bytes} - {0, *WIDTHS}:
            raise BlockInvalid("a block of unknown form")
        ticks = np.arange(n_ticks) if n_present == n_ticks else np.flatnonzero(reader.bits(1, n_ticks))
        metrics = np.frombuffer(reader.take(2 * n_metrics), "<u2").astype(np.int64)
        rows, places = np.nonzero(reader.bits(n_metrics, n_devices))
        n_series = rows.size
        cells += n_series * n_present
        if ticks.size != n_present or not n_series or (metrics[1:] <= metrics[:-1]).any() or cells > MAX_CELLS:
            raise BlockInvalid(f"ticks or metrics do not fit, or there are more than {MAX_CELLS} readings in all")
        numbers, steps = metrics[rows], np.empty((n_series, n_present), np.int64)
        steps[:, 0] = _summed_by_metric(reader.integers(first_bytes, n_series), numbers)
        steps[:, 1:] = reader.integers(difference_bytes, n_series * (n_present - 1)).reshape(n_series, -1)
        summed: Steps = steps.cumsum(axis=1)
        if summed.max() >= _LARGEST or summed.min() <= -_LARGEST:
            raise BlockInvalid(_TOO_LARGE)
        yield Part(numbers, places, ticks, summed)


def _summed_by_metric(differences: Steps, numbers: NDArray[np.int64]) -> Steps:
    """Return the running sums, which begin anew with each metric's first series."""
    sums: Steps = differences.cumsum()
    begins = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    if begins.size:
        lengths = np.empty(begins.size, np.int64)
        lengths[:-1], lengths[-1] = begins[1:] - begins[:-1], numbers.size - begins[-1]
        sums[begins[0] :] -= np.repeat(sums[begins - 1], lengths)
    return sums


def of_columns(columns: Mapping[str, Sequence[Sequence[float | None]]]) -> list[Part]:
    """Return the readings of a batch's columns, in base units, as matrices: one part for each set of ticks.

    Raises BlockInvalid where a reading is too large.
    """
    parts: dict[tuple[int, ...], list[tuple[int, int, list[int]]]] = {}
    for metric in catalog.METRICS:
        for place, readings in enumerate(columns.get(metric.name, ())):
            ticks = tuple(tick for tick, value in enumerate(readings) if value is not None)
            steps = [in_steps(value, metric.resolution) for value in readings if value is not None]
            if any(abs(value) >= _LARGEST for value in steps):
                raise BlockInvalid(_TOO_LARGE)
            if ticks:
                parts.setdefault(ticks, []).append((metric.number, place, steps))
    return [
        Part(
            np.array([number for number, _, _ in series], np.int64),
            np.array([place for _, place, _ in series], np.int64),
            np.array(ticks, np.int64),
            np.array([steps for _, _, steps in series], np.int64).reshape(len(series), len(ticks)),
        )
        for ticks, series in parts.items()
    ]


def to_columns(parts: Sequence[Part], n_devices: int, n_ticks: int) -> dict[int, list[list[int | None]]]:
    """Return by metric number each device's readings, `(n_ticks,)` steps, None where absent."""
    found: dict[int, list[list[int | None]]] = {}
    for part in parts:
        ticks = part.ticks.tolist()
        for number, place, steps in zip(part.numbers.tolist(), part.places.tolist(), part.steps.tolist(), strict=True):
            by_device = found.setdefault(number, [[None] * n_ticks for _ in range(n_devices)])
            if len(ticks) == n_ticks:
                by_device[place] = steps
            else:
                for tick, value in zip(ticks, steps, strict=True):
                    by_device[place][tick] = value
    return found


def in_steps(value: float, resolution: float) -> int:
    return round(value) if resolution == 1 else round(value / resolution)


def in_base_units(steps: Steps, resolution: float) -> NDArray[np.float64]:
    """Return the readings in base units; whole steps are divided, not multiplied, so that 0.1 °C stays 41.3."""
    if resolution >= 1:
        return np.multiply(steps, float(resolution), dtype=np.float64)
    return np.divide(steps, float(round(1 / resolution)), dtype=np.float64)
