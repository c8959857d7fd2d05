"""Readings that stay the driver's raw numbers until somebody looks: what a batch is made of is converted many ticks at once.

Made by a backend for a device that answered as it does always; to all others it is a map as any. Taken apart by batching.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Protocol

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

Column = Sequence[float]
Columns = list[tuple[str, Column]]
_NUMBERS = frozenset((int, float))


class Conversion(Protocol):
    """What raw numbers mean; `metrics` names them in their order. Its values are finite, and the wire can carry them."""

    metrics: tuple[str, ...]

    def put(self, raw: Sequence[float], readings: dict[str, Reading]) -> None:
        """Put the readings that one tick's numbers mean into `readings`."""

    def columns(self, raws: Sequence[Sequence[float]]) -> list[list[float]] | None:
        """Return the readings of many ticks, by metric; None where one is absent."""


class Kept:
    """What stands in many ticks: the map, which is not changed any more, and its parts."""

    def __init__(self, readings: dict[str, Reading]) -> None:
        self.readings = readings
        self._columns: dict[int, Columns] = {}  # by how many ticks

    @cached_property
    def reasons(self) -> dict[str, AbsentReason]:
        return {name: value for name, value in self.readings.items() if isinstance(value, AbsentReason)}

    def columns(self, n: int) -> Columns:
        """Return what it is in `n` ticks, the same objects each time, so that they are soon seen to be equal."""
        if n not in self._columns:
            self._columns = {n: [(name, (value,) * n) for name, value in self.numbers]}
        return self._columns[n]

    @cached_property
    def numbers(self) -> list[tuple[str, float]]:
        return [(name, value) for name, value in self.readings.items() if not isinstance(value, AbsentReason)]


class Deferred(Mapping[str, Reading]):
    """One tick of a device: `raw` are `conversion`'s numbers, `extra` is ready, and `kept` has neither's names."""

    __slots__ = ("_readings", "conversion", "extra", "kept", "raw")

    def __init__(self, kept: Kept, conversion: Conversion, raw: Sequence[float], extra: dict[str, Reading]) -> None:
        self.kept, self.conversion, self.raw, self.extra = kept, conversion, raw, extra
        self._readings: dict[str, Reading] | None = None

    def add(self, name: str, reading: Reading) -> None:
        """Put one reading more into the tick."""
        self.extra[name] = reading
        self._readings = None

    def __getitem__(self, name: str) -> Reading:
        return self._looked_at()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._looked_at())

    def __len__(self) -> int:
        return len(self.kept.readings) + len(self.conversion.metrics) + len(self.extra)

    def _looked_at(self) -> dict[str, Reading]:
        if self._readings is None:
            readings = self.kept.readings.copy()
            self.conversion.put(self.raw, readings)
            readings.update(self.extra)
            self._readings = readings
        return self._readings


def alike(ticks: Sequence[Mapping[str, Reading]]) -> list[Deferred] | None:
    """Return a device's ticks where they are deferred, all by one conversion; else None."""
    found: list[Deferred] = []
    for tick in ticks:
        if type(tick) is not Deferred or (found and tick.conversion is not found[0].conversion):
            return None
        found.append(tick)
    return found or None


def convert(devices: Sequence[Sequence[Deferred]]) -> list[list[Column]] | None:
    """Return by metric of their one conversion and by device its numbers, `(n_ticks,)`; None where one is missing.

    All devices have as many ticks.
    """
    n = len(devices[0])
    columns = devices[0][0].conversion.columns([tick.raw for ticks in devices for tick in ticks])
    if columns is None:
        return None
    places = [slice(at, at + n) for at in range(0, n * len(devices), n)]
    return [[column[place] for place in places] for column in columns]


def beside(ticks: Sequence[Deferred]) -> tuple[Columns, Mapping[str, AbsentReason]] | None:
    """Return a device's other numbers by metric, `(n_ticks,)`, and why it lacks what it lacks in all of these ticks.

    None where a tick has a reading that another has not.
    """
    kept, extra = _kept([tick.kept for tick in ticks]), _extra([tick.extra for tick in ticks])
    if kept is None or extra is None:
        return None
    reasons = ticks[0].kept.reasons
    return kept + extra[0], {**reasons, **extra[1]} if extra[1] else reasons


def _kept(all_kept: list[Kept]) -> Columns | None:
    first, last, n = all_kept[0], all_kept[-1], len(all_kept)
    if first is last and all_kept.count(first) == n:
        return first.columns(n)
    if any(kept.reasons != first.reasons for kept in all_kept):
        return None
    return list(zip((name for name, _ in first.numbers), zip(*map(_values, all_kept), strict=True), strict=True))


def _values(kept: Kept) -> list[float]:
    return [value for _, value in kept.numbers]


def _extra(extras: list[dict[str, Reading]]) -> tuple[Columns, dict[str, AbsentReason]] | None:
    names = list(extras[0])
    if any(list(extra) != names for extra in extras):
        return None
    rows = list(zip(*[extra.values() for extra in extras], strict=True))
    if _NUMBERS.issuperset(map(type, chain.from_iterable(rows))):  # the usual case
        return list(zip(names, rows, strict=True)), {}
    numbers: Columns = []
    reasons: dict[str, AbsentReason] = {}
    for name, column in zip(names, rows, strict=True):
        first = column[0]
        if isinstance(first, AbsentReason):
            if column.count(first) != len(column):
                return None
            reasons[name] = first
        elif _NUMBERS.issuperset(map(type, column)):
            numbers.append((name, column))
        else:
            return None
    return numbers, reasons
