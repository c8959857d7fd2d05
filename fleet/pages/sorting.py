"""The order of a table as its address says it: `?sort=power`, or `?sort=-power` for the greatest first. For the views.

The template tag `heading` writes the links. Imports no app.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.exceptions import BadRequest
from django.http import QueryDict

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Sorting:
    key: str
    is_descending: bool = False

    @property
    def text(self) -> str:
        return f"{'-' if self.is_descending else ''}{self.key}"

    def arranged(self, rows: Iterable[Row], value: Callable[[Row], Any]) -> list[Row]:
        """Return the rows by their value; those of which it is None or "" stand last in either direction."""
        known, unknown = list[tuple[Any, Row]](), list[Row]()
        for row in rows:
            at = value(row)
            if at is None or at == "":
                unknown.append(row)
            else:
                known.append((at, row))
        known.sort(key=lambda pair: pair[0], reverse=self.is_descending)
        return [row for _, row in known] + unknown


def of_query(query: QueryDict, keys: Collection[str], default: str) -> Sorting:
    """Return the order asked for. Raises BadRequest for a column that there is not."""
    text = query.get("sort") or default
    key = text.removeprefix("-")
    if key not in keys:
        raise BadRequest(f"sort: expected one of {', '.join(keys)}, with a - before it for the greatest first")
    return Sorting(key, text.startswith("-"))
