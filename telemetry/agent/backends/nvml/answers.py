"""What a board answered in one tick, as the bytes that the driver wrote: their numbers are taken out when somebody looks.

A batch looks at all of its ticks at once, which is cheaper than at each alone. Made by asked.py.
"""

import struct
from collections.abc import Sequence
from functools import cache
from operator import add

from telemetry.agent.backends.nvml.conversion import conversion
from telemetry.agent.backends.nvml.nvlink import MOST_COUNTED, RATE, Counted, counted, rate_between
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

# Seconds, what the driver wrote, and both of the tick before, or what NVLink had counted then, where there is either.
Snapshot = tuple[float, bytes, tuple[float, bytes] | Counted | None]


class Answers:
    """Takes snapshots of one layout apart; a conversion as the batch maker wants one.

    `places` are those of the metrics' numbers among all, `counters` those of NVLink's two counters, where there are both.
    """

    def __init__(
        self,
        layout: str,
        places: tuple[int, ...],
        metrics: tuple[str, ...],
        divisors: tuple[float, ...],
        counters: tuple[int, int] | None,
    ) -> None:
        self.layout = layout
        self._unpack = struct.Struct("=" + layout).unpack
        self.places = places
        self._conversion = conversion(metrics, divisors)
        self._counters = counters
        self.metrics = metrics if counters is None else (*metrics, RATE)
        self.divisors = divisors if counters is None else (*divisors, 1)

    def put(self, raw: Snapshot, readings: dict[str, Reading]) -> None:
        """Put one tick's readings into `readings`; the rate is left out where no earlier counters lead to it."""
        now, numbers, _ = raw
        row = self._unpack(numbers)
        self._conversion.put([row[place] for place in self.places], readings)
        if self._counters is not None:
            rate = rate_between(self._before(raw), self.counted(now, numbers))
            if rate is not None:
                readings[RATE] = rate

    def columns(self, raws: Sequence[Snapshot]) -> Sequence[Sequence[float]] | None:
        """Return the numbers of many snapshots by metric; None where one has no reading of a metric."""
        numbers = list(zip(*map(self._unpack, [numbers for _, numbers, _ in raws]), strict=True))
        columns = self.believed([numbers[place] for place in self.places])
        if columns is None or self._counters is None:
            return columns
        sent, received = self._counters
        rates = self._rates(raws, numbers[sent], numbers[received])
        return None if rates is None else [*columns, rates]

    def believed(self, columns: Sequence[Sequence[float]]) -> Sequence[Sequence[float]] | None:
        """Return these numbers by metric, but for the rate's; None where one cannot be believed."""
        return self._conversion.believed(columns)

    def counted(self, now: float, numbers: bytes) -> Counted | None:
        """Return what NVLink had counted in a snapshot, None where that cannot be."""
        if self._counters is None:
            return None
        row = self._unpack(numbers)
        return counted(now, *[row[place] for place in self._counters])

    def _before(self, raw: Snapshot) -> Counted | None:
        if raw[2] is None:
            return None
        now, known = raw[2]
        return self.counted(now, known) if isinstance(known, bytes) else (now, known)

    def _rates(self, raws: Sequence[Snapshot], sent: Sequence[int], received: Sequence[int]) -> list[float] | None:
        """Return each snapshot's rate, None where one has none."""
        if max(*sent, *received) > MOST_COUNTED:
            return None
        rates: list[float] = []
        found, last = None, None
        for raw, total in zip(raws, map(add, sent, received), strict=True):
            now, numbers, earlier = raw
            # A device's snapshots come in a row: mostly the one before is at hand.
            before = found if earlier is not None and earlier[1] is last else self._before(raw)
            found, last = (now, float(total)), numbers
            rate = rate_between(before, found)
            if rate is None or isinstance(rate, AbsentReason):
                return None
            rates.append(rate)
        return rates


@cache
def answers(
    layout: str,
    places: tuple[int, ...],
    metrics: tuple[str, ...],
    divisors: tuple[float, ...],
    counters: tuple[int, int] | None,
) -> Answers:
    """Return what all devices with the same offer share."""
    return Answers(layout, places, metrics, divisors, counters)
