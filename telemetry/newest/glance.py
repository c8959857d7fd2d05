"""The newest state of the whole fleet in columns, kept in the process: what the fleet page, its host map and its table read.

A host is read again when its mark has changed. Where so many have changed that a page would wait for it, they are read in a
thread of their own, and the page shows what was read before: some seconds old at most, as long as somebody looks.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, cached_property
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
from django.db import close_old_connections, transaction
from django.dispatch import receiver
from numpy.typing import NDArray

from fleet.inventory.removal import host_leaves
from fleet.models import DeviceKind, Host
from telemetry.exposition.presence import ordered
from telemetry.health import Finding, Health, gravest
from telemetry.health.gravest import Gravest
from telemetry.models import LatestState
from telemetry.newest import fleet_state, glance_alerts, queries
from telemetry.newest.glance_parts import CODE, METRICS, Codes, Flags, HostRow, Part, of_host
from telemetry.store import newest
from telemetry.store.newest import Identity
from telemetry.store.samples import Floats

AT_ONCE = 200  # hosts that a page reads itself: some 40 ms
SEEN_AGAIN = timedelta(seconds=1)
_TOO_OLD = timedelta(seconds=20)  # what is older is not shown: whoever asks waits
_FIELDS = HostRow._fields
_NODE_RANK = 2  # of a host that is known as a whole alone (Part.rank)

Indices = NDArray[np.int64]
Mark = tuple[object, ...]


@dataclass(frozen=True)
class Glance:
    """The counted devices of the fleet, or of one cluster, by cluster and host. Columns are over these, `(n,)`.

    `host` is the position of a device's host in `hosts`. A silent host's devices have no values. `is_hot` are those slowed by
    heat. `host_health` and `host_notes` are over hosts.
    """

    now: datetime
    hosts: Sequence[HostRow]
    parts: Sequence[Part]
    host: Indices
    values: Floats
    is_read: Flags
    is_hot: Flags
    health: Codes
    notes: Mapping[int, str]
    host_health: Codes
    host_notes: Sequence[str]

    @cached_property
    def identities(self) -> list[Identity]:
        return list(chain.from_iterable(part.identities for part in self.parts))

    @cached_property
    def titles(self) -> list[str]:
        return list(chain.from_iterable(part.titles for part in self.parts))

    @cached_property
    def counted(self) -> Flags:
        """Which devices the fleet's figures speak of: accelerators where there are any, else CPUs, else nodes."""
        found: Flags = self._ranks == self._ranks.min(initial=2)
        return found

    @cached_property
    def powered(self) -> Flags:
        """Which devices power and energy are summed of, as in accounts.py: a host's accelerators, else its CPUs.

        Where no host has any, those that the figures speak of.
        """
        of_hosts: Flags = self._ranks < _NODE_RANK
        return of_hosts if of_hosts.any() else self.counted

    @cached_property
    def _ranks(self) -> Indices:
        return np.repeat([part.rank for part in self.parts], [len(part.identities) for part in self.parts])

    @property
    def n_counted(self) -> int:
        return int(self.counted.sum())

    @property
    def n_apart(self) -> int:
        """How many hosts have CPUs alone where the other figures speak of accelerators: what they draw is summed too."""
        ranks = [part.rank for part in self.parts if part.identities]
        return ranks.count(1) if 0 in ranks else 0

    @cached_property
    def reporting(self) -> Flags:
        return self.is_read & self.counted

    @cached_property
    def noun(self) -> str:
        """What the counted devices are called: as fleet_state.noun."""
        kinds = {self.identities[at].kind for at in np.flatnonzero(self.counted).tolist()}
        words = {str(DeviceKind(kind).label) for kind in kinds} or {"device"}
        return f"{words.pop()}s" if len(words) == 1 else "accelerators"

    @property
    def clusters(self) -> list[str]:
        return list(dict.fromkeys(host.cluster for host in self.hosts))

    @property
    def has_given(self) -> bool:
        """Tell whether any host has given readings, however long ago."""
        return any(part.has_given for part in self.parts)

    def column(self, metric: str) -> Floats:
        """Return a metric of the reporting devices, `(n_reporting,)`; NaN where one does not give it."""
        found: Floats = self.values[self.reporting, METRICS.index(metric)]
        return found

    @property
    def power_watts(self) -> tuple[Floats, Floats]:
        """Return what the powered devices draw, `(n,)` each: the counted ones, and the CPUs of hosts apart; NaN where unread."""
        drawn = np.where(self.is_read, self.values[:, METRICS.index("power_draw_watts")], np.nan)
        return drawn[self.powered & self.counted], drawn[self.powered & ~self.counted]

    def count(self, health: Health) -> int:
        return int((self.health[self.counted] == CODE[health]).sum())

    def n_hosts(self, health: Health) -> int:
        return int((self.host_health == CODE[health]).sum())

    def why_absent(self, metric: str) -> str:
        """Return the first reporting device's reason for a metric that it does not give."""
        at = np.flatnonzero(self.reporting)
        if not at.size:
            return f"none of the {self.noun} reports"
        return fleet_state.absence(self.parts[self.host[at[0]]].why.get(metric))

    def of_cluster(self, cluster: str) -> "Glance":
        """Return the part of the fleet that stands in a cluster."""
        kept = [at for at, host in enumerate(self.hosts) if host.cluster == cluster]
        place = np.full(len(self.hosts), -1)
        place[kept] = np.arange(len(kept))
        inside = place[self.host] >= 0
        positions = (np.cumsum(inside) - 1).tolist()
        return replace(
            self,
            hosts=[self.hosts[at] for at in kept],
            parts=[self.parts[at] for at in kept],
            host=place[self.host[inside]],
            values=self.values[inside],
            is_read=self.is_read[inside],
            is_hot=self.is_hot[inside],
            health=self.health[inside],
            notes={positions[at]: note for at, note in self.notes.items() if inside[at]},
            host_health=self.host_health[kept],
            host_notes=[self.host_notes[at] for at in kept],
        )


class Lookout:
    """Keeps each host's part. `submit` runs work in another thread, one after the other."""

    def __init__(self, submit: Callable[[Callable[[], None]], "Future[None]"]) -> None:
        self._submit = submit
        self._lock, self._looking = Lock(), Lock()
        self._seen: Glance | None = None
        self._parts: dict[int, Part] = {}
        self._marks: dict[int, Mark] = {}
        self._whole_at: datetime | None = None  # when nothing was left unread
        self._reading: Future[None] | None = None

    def look_again(self, now: datetime) -> Glance:
        """Return what was seen less than a second ago, else look. Who asks while another looks waits for him."""
        with self._looking:
            if self._seen is None or abs(now - self._seen.now) >= SEEN_AGAIN:
                self._seen = self.look(now)
            return self._seen

    def forget(self) -> None:
        """Have the next one look, however soon."""
        with self._looking:
            self._seen = None

    def look(self, now: datetime) -> Glance:
        """Return the fleet as it stands. Four queries and, where hosts have changed, those that read them."""
        hosts = [HostRow(*row) for row in Host.objects.order_by("cluster", "name").values_list(*_FIELDS)]
        xids = queries.recent_xids_by_host(now)
        marks = _marks(hosts, xids)
        with self._lock:
            unread = [pk for pk, mark in marks.items() if self._marks.get(pk) != mark]
            self._forget(marks)
        self._read(hosts, unread, marks, xids, now)
        with self._lock:
            parts = [self._parts[host.pk] for host in hosts if host.pk in self._parts]
            there = [host for host in hosts if host.pk in self._parts]
        return _glance(now, there, parts, gravest.of_all())

    def _read(
        self, hosts: Sequence[HostRow], unread: Sequence[int], marks: Mapping[int, Mark],
        xids: Mapping[int, Mapping[int, Sequence[int]]], now: datetime,
    ) -> None:  # fmt: skip
        """Read what has changed: here where that is little or where what is known is too old, else in the other thread."""

        def read() -> None:
            self._take(hosts, unread, marks, xids)

        is_old = self._whole_at is None or now - self._whole_at > _TOO_OLD
        if len(unread) <= AT_ONCE or is_old:
            read()
            self._whole_at = now
        elif self._reading is None or self._reading.done():
            if self._reading is not None:
                self._reading.result()  # what it stumbled over is said here
            self._reading = self._submit(read)
            self._whole_at = now

    def _take(
        self, hosts: Iterable[HostRow], unread: Sequence[int], marks: Mapping[int, Mark],
        xids: Mapping[int, Mapping[int, Sequence[int]]],
    ) -> None:  # fmt: skip
        if not unread:
            return
        wanted = set(unread)
        identities = newest.identities(None if 2 * len(wanted) > len(marks) else unread)
        rows = {pk: (at_ms, devices) for pk, at_ms, devices in newest.changed(unread, len(marks))}
        made = {}
        for host in hosts:
            if host.pk in wanted:
                own = ordered(Identity(*row) for row in identities.get(host.pk, []))
                made[host.pk] = of_host(host, own, *rows.get(host.pk, (0, {})), xids.get(host.pk, {}))
        with self._lock:
            self._parts.update(made)
            self._marks.update({pk: marks[pk] for pk in made})

    def _forget(self, present: Collection[int]) -> None:
        for pk in self._parts.keys() - set(present):
            del self._parts[pk], self._marks[pk]


def recent(now: datetime) -> Glance:
    """Return the fleet as this process saw it within the last second: pages and panels of many people look at once."""
    return of_this_process().look_again(now)


@cache
def of_this_process() -> Lookout:
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="glance")
    return Lookout(lambda read: thread.submit(_with_own_connection, read))


@receiver(host_leaves)
def _forget_who_left(**_: object) -> None:
    transaction.on_commit(of_this_process().forget)


def _with_own_connection(read: Callable[[], None]) -> None:
    """Django closes a thread's connections after a request; this thread serves none."""
    try:
        read()
    finally:
        close_old_connections()


def _marks(hosts: Sequence[HostRow], xids: Mapping[int, Any]) -> dict[int, Mark]:
    """Return what changes whenever a host's readings, or its last hour's XIDs, do."""
    at_ms = dict(LatestState.objects.values_list("host_id", "at_ms"))
    return {host.pk: (host.heard_at, at_ms.get(host.pk), repr(xids.get(host.pk)), host.has_reported) for host in hosts}


def _glance(now: datetime, hosts: Sequence[HostRow], parts: Sequence[Part], alerts: Gravest) -> Glance:
    sizes = [len(part.identities) for part in parts]
    silent = [at for at, host in enumerate(hosts) if host.is_silent(now)]
    host = np.repeat(np.arange(len(hosts)), sizes)
    of_silent = np.isin(host, silent)
    values, health, is_read, is_hot = _columns(parts)
    values[of_silent], health[of_silent] = np.nan, CODE[Health.SILENT]
    firsts = np.cumsum([0, *sizes]).tolist()
    notes = {
        at: note for first, part in zip(firsts, parts, strict=False) if part.has_notes
        for at, note in enumerate(part.notes, start=first) if note
    }  # fmt: skip
    worst = [part.worst for part in parts]
    for at in [at for at, host in enumerate(hosts) if host.pk in alerts.hosts]:
        worst[at] = glance_alerts.worst_of_host(hosts[at], parts[at], alerts)
        glance_alerts.raise_devices(parts[at], firsts[at], alerts, health, notes)
    for at in silent:
        worst[at] = Finding(Health.SILENT, queries.silence(hosts[at]))
        notes |= dict.fromkeys(range(firsts[at], firsts[at + 1]), worst[at].note)
    host_health = np.array([CODE[found.health] for found in worst], np.int8)
    return Glance(
        now, hosts, parts, host, values, is_read & ~of_silent, is_hot & ~of_silent, health, notes, host_health,
        [found.note for found in worst],
    )  # fmt: skip


def _columns(parts: Sequence[Part]) -> tuple[Floats, Codes, Flags, Flags]:
    """Return values, health, what gives readings and what is hot, of all hosts' devices end to end."""
    if not parts:
        return np.zeros((0, len(METRICS))), np.zeros(0, np.int8), np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    return (
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.health for part in parts]),
        np.concatenate([part.is_read for part in parts]),
        np.concatenate([part.is_hot for part in parts]),
    )
