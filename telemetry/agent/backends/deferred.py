"""Readings that stay the driver's raw numbers until somebody looks: what a batch is made of is converted many ticks at once.

Made by a backend for a device that answered as it does always; to all others it is a map as any. Taken apart by batching.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

_Picker = Callable[[Mapping[str, Any]], tuple[Any, ...]]

_NUMBERS = frozenset((int, float))

Numbers = Sequence[float]
Named = list[tuple[str, Numbers, float]]  # metric, numbers of many devices and ticks end to end, their divisor


class Conversion(Protocol):
    """What ticks mean that are still as the driver told them: numbers by `metrics`, each to be divided by its divisor.

    The readings are finite, and the wire can carry them.
    """

    metrics: tuple[str, ...]
    divisors: tuple[float, ...]

    def put(self, raw: Any, readings: dict[str, Reading]) -> None:
        """Put what one tick means into `readings`."""

    def columns(self, raws: Sequence[Any]) -> Sequence[Numbers] | None:
        """Return the numbers of many ticks by metric, None where one has no reading of a metric."""


class Kept:
    """What stands in many ticks: `values` of `names`, and `reasons` of what is absent. None of it is changed any more."""

    __slots__ = ("_beside", "_readings", "names", "reasons", "values")

    def __init__(self, names: tuple[str, ...], values: tuple[float, ...], reasons: dict[str, AbsentReason]) -> None:
        self.names, self.values, self.reasons = names, values, reasons
        self._readings: dict[str, Reading] | None = None
        self._beside: tuple[str, Reading, Kept] | None = None

    @classmethod
    def of(cls, readings: Mapping[str, Reading]) -> "Kept":
        reasons = {name: value for name, value in readings.items() if isinstance(value, AbsentReason)}
        names = tuple([name for name in readings if name not in reasons])
        return cls(names, _picker(names)(readings), reasons)

    @property
    def readings(self) -> Mapping[str, Reading]:
        if self._readings is None:
            self._readings = {**dict(zip(self.names, self.values, strict=True)), **self.reasons}
        return self._readings

    def again(self, readings: Mapping[str, Reading]) -> "Kept":
        """Return what stands now, of the same names, with what is as it was in this one."""
        values, reasons = _picker(self.names)(readings), self.reasons
        if _picker(tuple(reasons))(readings) != (*reasons.values(),) or not _NUMBERS.issuperset(map(type, values)):
            return Kept.of({name: readings[name] for name in (*self.names, *reasons)})
        return self if values == self.values else Kept(self.names, values, reasons)

    def beside(self, name: str, reading: Reading) -> "Kept":
        """Return it with one reading more: the same object each time, as long as the reading is the same."""
        known = self._beside
        if known is None or known[0] != name or known[1] != reading:
            known = self._beside = (name, reading, self._joined(name, reading))
        return known[2]

    def _joined(self, name: str, reading: Reading) -> "Kept":
        if isinstance(reading, AbsentReason) or name in self.names or name in self.reasons:
            return Kept.of({**self.readings, name: reading})
        return Kept((*self.names, name), (*self.values, reading), self.reasons)


class Deferred(Mapping[str, Reading]):
    """One tick of a device: `raw` is what `conversion` understands; `kept` has none of its names."""

    __slots__ = ("_readings", "conversion", "kept", "raw")

    def __init__(self, kept: Kept, conversion: Conversion, raw: Any) -> None:
        self.kept, self.conversion, self.raw = kept, conversion, raw
        self._readings: dict[str, Reading] | None = None

    def add(self, name: str, reading: Reading) -> None:
        """Put one reading more into the tick, of those that stand in many."""
        self.kept = self.kept.beside(name, reading)
        self._readings = None

    def __getitem__(self, name: str) -> Reading:
        return self._looked_at()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._looked_at())

    def __len__(self) -> int:
        return len(self._looked_at())

    def __bool__(self) -> bool:  # without a look
        return bool(self.conversion.metrics or self.kept.names or self.kept.reasons)

    def _looked_at(self) -> dict[str, Reading]:
        if self._readings is None:
            readings = {**self.kept.readings}
            self.conversion.put(self.raw, readings)
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


def together(devices: Sequence[Sequence[Deferred]]) -> Named | None:
    """Return what devices of one conversion have, each device's ticks in a row; all devices have as many.

    None where a tick of one has a reading that another tick has not, or that the other devices have not.
    """
    ticks = list(chain.from_iterable(devices))
    conversion, names = ticks[0].conversion, ticks[0].kept.names
    if not _stand_alike(devices, names):
        return None
    asked = conversion.columns([tick.raw for tick in ticks])
    if asked is None:
        return None
    kept = zip(*[tick.kept.values for tick in ticks], strict=True)
    return [
        *zip(conversion.metrics, asked, conversion.divisors, strict=True),
        *[(name, numbers, 1) for name, numbers in zip(names, kept, strict=True)],
    ]


def _stand_alike(devices: Sequence[Sequence[Deferred]], names: tuple[str, ...]) -> bool:
    """Return whether each device lacks the same in all of its ticks, and none of them what another has."""
    for ticks in devices:
        before = None
        for tick in ticks:
            kept = tick.kept
            if kept is not before and (kept.names != names or (before is not None and kept.reasons != before.reasons)):
                return False
            before = kept
    return True


@lru_cache(maxsize=64)
def _picker(names: tuple[str, ...]) -> _Picker:
    """Return what takes the readings of these names out of a map."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda readings: tuple([readings[name] for name in names])  # itemgetter gives one alone, not in a tuple
