"""From a host's readings to finished sample lines, a family at a time: text that was made once, around values.

Called by the two namings (exposition.py, dcgm.py). Labels change rarely and values always, so that the lines of a family are
one template, and a family costs one formatting operation in C whatever the number of devices.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

Readings = Sequence[Mapping[str, float]]  # by device
Text = Callable[[Any], bytes]


class Column:
    """One family's lines of one host. `pick` takes its values out of all of the host's, `text` makes the lines of them."""

    __slots__ = ("_fragment", "_pick", "_text", "_values", "family")

    def __init__(self, family: int, positions: Sequence[int], text: Text) -> None:
        self.family = family
        self._pick = itemgetter(*positions)
        self._text = text
        self._values: object = None
        self._fragment = b""

    def fragment(self, flat: Sequence[float]) -> bytes:
        """Return the lines; values as they were last time give the same object, so that nothing behind it is made anew."""
        values = self._pick(flat)
        if values != self._values:
            self._values, self._fragment = values, self._text(values)
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


def template(sample_name: str, label_texts: Sequence[str], conversion: str) -> Text:
    """Return what makes the lines of a family: one a label text, each value written by the %-conversion."""
    heads = (f"{sample_name}{{{text}}} ".replace("%", "%%") for text in label_texts)
    return "".join(f"{head}{conversion}\n" for head in heads).encode().__mod__
