"""One metric's readings in a batch as the agent takes them over: a driver's numbers end to end, not a column for each device.

Made by the agent's batching and laid out by the wire, which takes many devices in one step. To everybody else it is the list of
columns that a batch's metric is, and its readings are made when somebody looks. No Django, no numpy.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import NamedTuple, cast, overload

Ticks = tuple[int, ...] | None  # ascending; None: all of the batch's
Column = Sequence[float | None]

_INTEGERS = frozenset((int,))
_MOST_OFF = 1e-9
_rounded = float.__round__  # `round` first looks for a number's own way of rounding


class Part(NamedTuple):
    """What some devices have, `places` ascending, at the same ticks: `numbers` device after device, each over the ticks.

    A reading is its number divided by `divisor`. No place stands in two parts of a block.
    """

    places: tuple[int, ...]
    ticks: Ticks
    numbers: Sequence[float]
    divisor: float

    def steps(self, resolution: float) -> Sequence[int]:
        """Return the readings in steps of the resolution, end to end as the numbers are."""
        numbers = self.numbers
        if _INTEGERS.issuperset(map(type, numbers)):
            factor = _whole(self.divisor, resolution)
            if factor:
                whole = cast("Sequence[int]", numbers)
                return whole if factor == 1 else [number * factor for number in whole]
        divisor = self.divisor
        return [_rounded(number / divisor / resolution) for number in numbers]

    def readings(self, place: int) -> list[float]:
        """Return those of one device, `(n_ticks,)`."""
        n = len(self.numbers) // len(self.places)
        at = self.places.index(place) * n
        own = self.numbers[at : at + n]
        return [*own] if self.divisor == 1 else [number / self.divisor for number in own]


class Block(Sequence[Column]):
    """A metric of `n_devices` over `n_ticks`; a device in none of the parts lacks it."""

    __slots__ = ("n_devices", "n_ticks", "parts")

    def __init__(self, n_devices: int, n_ticks: int, parts: list[Part]) -> None:
        self.n_devices, self.n_ticks, self.parts = n_devices, n_ticks, parts

    def __len__(self) -> int:
        return self.n_devices

    @overload
    def __getitem__(self, place: int) -> Column: ...
    @overload
    def __getitem__(self, place: slice) -> list[Column]: ...
    def __getitem__(self, place: int | slice) -> Column | list[Column]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(self.n_devices))]
        return self._column(range(self.n_devices)[place])

    def __eq__(self, other: object) -> bool:
        if type(other) is Block:
            return (self.n_devices, self.n_ticks, self.parts) == (other.n_devices, other.n_ticks, other.parts)
        return isinstance(other, Sequence) and len(other) == self.n_devices and all(map(_are_alike, self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows part by part

    def runs(self, resolution: float) -> list[tuple[int, Ticks, Sequence[int]]]:
        """Return (a bit for each device, ticks, readings in steps of the resolution, device after device)."""
        if len(self.parts) == 1:
            part = self.parts[0]
            return [(_bits(part.places), part.ticks, part.steps(resolution))]
        runs: list[tuple[int, Ticks, Sequence[int]]] = []
        alike: dict[Ticks, list[Part]] = {}
        for part in self.parts:
            alike.setdefault(part.ticks, []).append(part)
        for ticks, parts in alike.items():
            by_place = sorted(chain.from_iterable([_cut(part, part.steps(resolution)) for part in parts]))
            places = tuple([place for place, _ in by_place])
            runs.append((_bits(places), ticks, list(chain.from_iterable([steps for _, steps in by_place]))))
        return runs

    def _column(self, place: int) -> Column:
        column: list[float | None] = [None] * self.n_ticks
        for part in self.parts:
            if place in part.places:
                readings = part.readings(place)
                if part.ticks is None:
                    return readings
                for tick, reading in zip(part.ticks, readings, strict=True):
                    column[tick] = reading
        return column


def part_of(place: int, column: Column) -> Part:
    """Return one device's readings, of which it has some, as a part."""
    if None not in column:
        return Part((place,), None, column, 1)  # type: ignore[arg-type]  # None of them is None
    ticks = tuple([tick for tick, reading in enumerate(column) if reading is not None])
    return Part((place,), ticks, [reading for reading in column if reading is not None], 1)


def _are_alike(one: Column, other: Column) -> bool:
    return list(one) == list(other)


def _cut(part: Part, steps: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    n = len(steps) // len(part.places)
    return [(place, steps[at : at + n]) for place, at in zip(part.places, range(0, len(steps), n), strict=True)]


@lru_cache(maxsize=1024)
def _bits(places: tuple[int, ...]) -> int:
    return sum(1 << place for place in places)


@cache
def _whole(divisor: float, resolution: float) -> int:
    """Return how many steps of the resolution one of the driver's whole numbers is, 0 where that is no whole number."""
    exact = 1 / (divisor * resolution)
    nearest = round(exact)
    return nearest if abs(exact - nearest) <= _MOST_OFF * nearest else 0
