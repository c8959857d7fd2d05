"""What every list of the API shares: `{"items": […], "count": n}` with `limit` and `offset`. Called by every package's api."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Field, Schema

Row = TypeVar("Row")
RowModel = TypeVar("RowModel", bound=Model)
Item = TypeVar("Item")


class Page(Schema):
    """The query parameters of a list."""

    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=10**9)


class Listed(Schema, Generic[Item]):
    """One page of a list; `count` is the length of the whole list."""

    items: list[Item]
    count: int


def page_of(rows: Sequence[Row], page: Page, item: Callable[[Row], Item]) -> Listed[Item]:
    """Return a page of rows that are all here, each turned into its item."""
    shown = rows[page.offset : page.offset + page.limit]
    return Listed(items=[item(row) for row in shown], count=len(rows))


def page_of_query(rows: QuerySet[RowModel], page: Page, item: Callable[[RowModel], Item]) -> Listed[Item]:
    """Return a page of a query; only the page's rows are read."""
    shown = rows[page.offset : page.offset + page.limit]
    return Listed(items=[item(row) for row in shown], count=rows.count())
