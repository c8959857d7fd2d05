"""Deleting many rows a slice at a time: each a transaction so short that nobody waits for it. Called by retention and removal."""

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db.models import BinaryField, CompositePrimaryKey, Model, QuerySet, Value
from django.db.models.functions import Length

MOST_BYTES = 8_000_000  # of bodies that go at once: 26 ms on SQLite, a quarter of what a transaction may take
MOST_ROWS = 200
_MOST_NAMED_BY_MANY = 100  # rows that are named by several columns each

_Row = TypeVar("_Row")


def delete_some(rows: QuerySet[Any]) -> int:
    """Delete the first of the rows with what hangs on them, as many as one slice may hold; returns how many went."""
    model: type[Model] = rows.model
    size = Length("body") if has_body(model) else Value(0)
    key = model._meta.pk  # noqa: SLF001 — documented by Django
    most = _MOST_NAMED_BY_MANY if isinstance(key, CompositePrimaryKey) else MOST_ROWS
    every = model._base_manager  # noqa: SLF001 — documented by Django
    chosen = first_of(rows.order_by().values_list("pk", size)[:most], MOST_BYTES)
    return int(every.filter(pk__in=chosen).delete()[0]) if chosen else 0


def has_body(model: type[Model]) -> bool:
    """Tell whether rows of the model are as long as their bodies."""
    fields = model._meta.concrete_fields  # noqa: SLF001 — documented by Django
    return any(isinstance(field, BinaryField) and field.name == "body" for field in fields)


def first_of(rows: Iterable[tuple[_Row, int]], most_bytes: int) -> list[_Row]:
    """Return the first of these rows with their bytes that together have no more than so many; one at least."""
    found: list[_Row] = []
    total = 0
    for row, n_bytes in rows:
        total += n_bytes
        if found and total > most_bytes:
            break
        found.append(row)
    return found
