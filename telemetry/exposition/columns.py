"""From a host's readings to finished sample lines, a family at a time: text that was made once, around values.

Called by the two namings (own_names.py, dcgm.py). Labels change rarely and values always: the lines of a family are one
template, which costs one formatting operation in C whatever the number of devices, and a host's numbers become text together.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from pydantic_core import to_json

Readings = Sequence[Mapping[str, float]]  # by device
Lines = Callable[[Any], bytes]  # of the numbers' texts: a tuple, or the text itself where there is one


class Column:
    """One family's lines of one host: its values are picked out of all of the host's, and `lines` puts them into their text."""

    __slots__ = ("_fragment", "_lines", "_pick", "_values", "family")

    def __init__(self, family: int, positions: Sequence[int], lines: Lines) -> None:
        self.family = family
        self._pick = itemgetter(*positions)
        self._lines = lines
        self._values: object = None
        self._fragment = b""

    def fragment(self, numbers: Sequence[bytes]) -> bytes:
        """Return the lines; values as they were last time give the same object, so that nothing behind it is made anew."""
        values = self._pick(numbers)
        if values != self._values:
            self._values, self._fragment = values, self._lines(values)
        return self._fragment


class Plan:
    """Where the values of each family stand among all readings of a host, as long as its devices give the same metrics."""

    __slots__ = ("_lengths", "_names", "columns")

    def __init__(self, readings: Readings, columns: Sequence[Column]) -> None:
        self._names = [name for values in readings for name in values]
        self._lengths = [len(values) for values in readings]
        self.columns = columns

    def fits(self, readings: Readings) -> bool:
        names: list[str] = []
        for values in readings:
            names += values
        return names == self._names and [len(values) for values in readings] == self._lengths


def flat_of(readings: Readings) -> list[float]:
    """Return all readings, device by device, in the order in which `positions_of` counts them."""
    flat: list[float] = []
    for values in readings:
        flat += values.values()
    return flat


def positions_of(readings: Readings) -> dict[str, list[tuple[int, int]]]:
    """Return by metric where in `flat_of` it stands: (device's number, position)."""
    found: dict[str, list[tuple[int, int]]] = {}
    position = 0
    for device, values in enumerate(readings):
        for name in values:
            found.setdefault(name, []).append((device, position))
            position += 1
    return found


def texts_of(flat: Sequence[float]) -> list[bytes]:
    """Return the shortest texts that read back as the same numbers; integers without a point. In C, a host at a time."""
    return to_json(flat)[1:-1].split(b",")


def template(sample_name: str, label_texts: Sequence[str], value: str = "%b") -> Lines:
    """Return what makes the lines of a family: one a label text, each with its value at its end."""
    heads = (f"{sample_name}{{{text}}} ".replace("%", "%%") for text in label_texts)
    return "".join(f"{head}{value}\n" for head in heads).encode().__mod__
