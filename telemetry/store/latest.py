"""The newest readings of hosts, as pages, API and jobs ask for them. Written by latest_rows.py.

Whoever keeps those of the whole fleet and asks for what has changed reads newest.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from fleet.models import Host
from telemetry.models import LatestState

_MANY_HOSTS = 500


@dataclass(frozen=True, slots=True)
class LatestDevice:
    """One device at `at_ms`; `read_ms` is when it last gave any value, None if it never did."""

    at_ms: int
    read_ms: int | None
    values: dict[str, float]
    absent: dict[str, str]


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest readings of one host, and who used its devices when that was last looked at."""

    at_ms: int
    devices: dict[str, LatestDevice]
    processes: dict[str, dict[str, Any]]


def of_hosts(hosts: Sequence[Host]) -> dict[int, Latest]:
    """Return the newest readings by host id, in one query."""
    return of_ids([host.pk for host in hosts])


def of_ids(host_ids: Collection[int]) -> dict[int, Latest]:
    """Return the same of the hosts of these ids."""
    rows = _rows_of(host_ids)
    return {
        row.host_id: Latest(
            row.at_ms,
            {uuid: LatestDevice(d["at_ms"], d["read_ms"], d["values"], d["absent"]) for uuid, d in row.devices.items()},
            row.processes,
        )
        for row in rows
    }


Processes = tuple[int, dict[str, dict[str, Any]]]
"""The time of a host's newest readings, and who used which of its devices."""


def processes_of(host_ids: Collection[int]) -> dict[int, Processes]:
    """Return who uses what by host id, without the readings, which are long. One query."""
    rows = _rows_of(host_ids).values_list("host_id", "at_ms", "processes")
    return {host_id: (at_ms, processes) for host_id, at_ms, processes in rows}


def _rows_of(host_ids: Collection[int]) -> QuerySet[LatestState]:
    """Return the rows of these hosts, or all where they are many: their ids would make a longer question than all an answer."""
    found = LatestState.objects.all()
    return found.filter(host_id__in=host_ids) if len(host_ids) < _MANY_HOSTS else found
