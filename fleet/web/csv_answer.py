"""A table as a CSV file to download: base units, times in ISO 8601 (UTC), what is unknown empty. Called by the views."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from django.core.exceptions import BadRequest
from django.http import HttpResponse, QueryDict

from fleet.web.attachment import attachment

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_answer(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> HttpResponse:
    """Return the rows under their columns as `<name>.csv`."""
    answer = HttpResponse(content_type="text/csv; charset=utf-8", headers=attachment(f"{name}.csv"))
    writer = csv.writer(answer)
    writer.writerow([_cell(column) for column in columns])  # some are named by a cluster or a label
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return answer


def _cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula is quoted: names of runs and hosts come from outside."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA):
        return f"'{value}"
    return value


def asked_table(query: QueryDict, tables: Mapping[str, Callable[[], HttpResponse]]) -> HttpResponse | None:
    """Return the file that `?format=csv&table=…` asks of a page with several tables; None where the page itself is asked for.

    Raises BadRequest for a table that the page does not have.
    """
    if query.get("format") != "csv":
        return None
    make = tables.get(query.get("table", ""))
    if make is None:
        raise BadRequest(f"table: expected one of {', '.join(tables)}")
    return make()
