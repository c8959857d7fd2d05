"""A figure as people read it: a value in a unit or why there is none, with what it was made of. No Django."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` in `unit` (base units, as fleet/units.py names them); None with the reason `why`.

    `remark` says what to know of the value: estimated, doubtful, in part. `parts` are the numbers that it was made of, by words.
    """

    value: float | None
    unit: str
    why: str = ""
    remark: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


def ratio(
    above: float | None, below: float | None, unit: str, why: str = "", remark: str = "", **parts: float | None
) -> Figure:  # fmt: skip
    """Return above / below; None where either is unknown or nothing is below, then with `why`."""
    known = {name: value for name, value in parts.items() if value is not None}
    if above is None or not below:
        return Figure(None, unit, why or "not known", "", known)
    return Figure(above / below, unit, "", remark, known)
