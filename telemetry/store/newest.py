"""What is read of the whole fleet again and again: who is there, which newest readings have changed, and these.

Called by telemetry/exposition/scrape.py at each scrape, from its own thread, and by telemetry/newest/glance.py. Plain rows
instead of models where there are thousands of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import TextField
from django.db.models.functions import Cast
from pydantic_core import from_json

from fleet.models import Device, Host
from telemetry.models import LatestState

_AT_ONCE = 500  # host ids in one query


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device is, apart from its readings."""

    host_id: int
    pk: int
    uuid: str
    kind: str
    index: int | None
    model: str
    pci_bus_id: str
    driver_version: str
    parent_id: int | None
    profile: str


class Mark(NamedTuple):
    """Changes whenever a host's readings do: every accepted batch sets `heard_at`, in the same transaction."""

    created_at: datetime
    heard_at: datetime | None
    at_ms: int | None


def hosts(name: str) -> list[Host]:
    """Return the host of that name, if there is one; all of them, by name, where it is ""."""
    found = Host.objects.only("name", "cluster", "origin", "created_at", "last_seen_at", "heard_at").order_by("name")
    return list(found.filter(name=name) if name else found)


def host_ids() -> set[int]:
    return set(Host.objects.values_list("pk", flat=True))


def identities(host_ids: Sequence[int] | None) -> dict[int, list[tuple[Any, ...]]]:
    """Return the devices' fields in the order of `Identity`, by host id; of all hosts where None is asked."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    rows = Device.objects.order_by("host_id", "pk").values_list(*(field.name for field in fields(Identity)))
    for row in rows if host_ids is None else rows.filter(host_id__in=host_ids):
        found.setdefault(row[0], []).append(row)
    return found


def marks(of: Sequence[Host], *, is_all: bool) -> dict[int, Mark]:
    """Return each host's mark. To be asked before `changed`: what is written between the two is then read once more."""
    rows = LatestState.objects.values_list("host_id", "at_ms")
    at_ms = dict(rows if is_all else rows.filter(host_id__in=[host.pk for host in of]))
    return {host.pk: Mark(host.created_at, host.heard_at, at_ms.get(host.pk)) for host in of}


def changed(host_ids: Sequence[int], n_hosts: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (host id, at_ms, devices as LatestState holds them) of these among `n_hosts`; of a host without any nothing.

    Parsed by pydantic's reader, in less than half of the time that Django's field takes.
    """
    rows = LatestState.objects.annotate(text=Cast("devices", TextField())).values_list("host_id", "at_ms", "text")
    is_most = 2 * len(host_ids) > n_hosts > _AT_ONCE
    wanted = set(host_ids)
    slices = [host_ids[first : first + _AT_ONCE] for first in range(0, len(host_ids), _AT_ONCE)]
    for some in [rows] if is_most else [rows.filter(host_id__in=ids) for ids in slices]:
        for host_id, at_ms, text in some.iterator(chunk_size=50):
            if host_id in wanted:
                yield host_id, at_ms, from_json(text, cache_strings="keys")
