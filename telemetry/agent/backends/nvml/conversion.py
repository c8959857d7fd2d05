"""Raw numbers of the driver to readings in base units, many at once. Used by the readers of calls, fields and GPM.

The loops are those of C functions (map, all, zip): this runs for each device each tick.
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from math import isnan
from operator import itemgetter, le, truediv
from typing import Any

from telemetry.agent.backends.nvml.ranges import believable
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason


class Conversion:
    """Of some metrics, in their order, with the divisor of each one's vendor unit."""

    def __init__(self, metrics: Sequence[str], divisors: Sequence[float]) -> None:
        self.metrics = tuple(metrics)
        self.divisors = tuple(divisors)
        ranges = [believable(metric) for metric in metrics]
        # Of the driver's own numbers, which are compared as they come. As floats: comparing a float with a whole number
        # costs twice as much.
        self._lows = tuple(float(low * divisor) for (low, _), divisor in zip(ranges, divisors, strict=True))
        self._highs = tuple(float(high * divisor) for (_, high), divisor in zip(ranges, divisors, strict=True))
        self._above_zero = [(place, low) for place, low in enumerate(self._lows) if low > 0]

    def put(self, raw: Sequence[float], readings: dict[str, Reading]) -> None:
        """Put the readings in; what cannot be believed is absent."""
        values = map(truediv, raw, self.divisors)
        if self._is_believable(raw):
            readings.update(zip(self.metrics, values, strict=True))
            return
        for metric, value, number, low, high in zip(self.metrics, values, raw, self._lows, self._highs, strict=True):
            readings[metric] = value if low <= number <= high else AbsentReason.UNKNOWN

    def columns(self, raws: Sequence[Sequence[float]]) -> Sequence[Sequence[float]] | None:
        """Return by metric the numbers of many ticks; None where one cannot be believed."""
        return self.believed(list(zip(*raws, strict=True)))

    def believed(self, columns: Sequence[Sequence[float]]) -> Sequence[Sequence[float]] | None:
        """Return these numbers by metric; None where one cannot be believed."""
        for numbers, low, high in zip(columns, self._lows, self._highs, strict=True):
            # NaN, which `min` and `max` may pass over, makes the sum one too.
            if not (low <= min(numbers) and max(numbers) <= high) or isnan(sum(numbers)):
                return None
        return columns

    def _is_believable(self, raw: Sequence[float]) -> bool:
        # NaN, which `min` may pass over, compares false with every ceiling.
        return (
            all(map(le, raw, self._highs))
            and min(raw, default=0.0) >= 0
            and all(raw[place] >= low for place, low in self._above_zero)
        )


@cache
def conversion(metrics: tuple[str, ...], divisors: tuple[float, ...]) -> Conversion:
    """Return the conversion that all devices with the same offer share: after a second of sleep each costs cache misses."""
    return Conversion(metrics, divisors)


@cache
def unpacker(layout: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads numbers of this layout out of a buffer, shared like the conversions."""
    return struct.Struct(layout).unpack_from


@cache
def picker(positions: tuple[int, ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what takes the numbers at these places out of many, shared like the conversions."""
    if len(positions) > 1:
        return itemgetter(*positions)
    # Of one place itemgetter gives the number alone, not in a sequence.
    return lambda numbers: [numbers[position] for position in positions]
