"""The whole fleet's exposition, joined from the fragments of its hosts; reads what has changed since the last time.

Used by renderer.py, in one thread: nothing here is locked. Families are contiguous; the pieces of a compressed body
are made for groups of hosts, and kept.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from fleet.models import Host
from telemetry.exposition import own_names
from telemetry.exposition.fragments import Fragments, HostFragments, families
from telemetry.exposition.own_names import Names
from telemetry.exposition.pieces import Piece, gzip_of, piece_of
from telemetry.exposition.presence import HostNow, ordered
from telemetry.exposition.textformat import OPENMETRICS_END, Family, header
from telemetry.store import newest
from telemetry.store.newest import Identity, Mark

_GROUP = 64  # hosts in one piece of a compressed body: some 60 kB, above deflate's window and cheap to make again
_FORGET_EVERY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one scrape asks for; `host` is "" for the whole fleet."""

    names: tuple[Names, ...]
    openmetrics: bool = False
    gzip: bool = False
    host: str = ""


class UnknownHost(LookupError):
    """There is no host of that name."""


class Fleet:
    """Every host's fragments, and the pieces of compressed bodies that were made of them."""

    def __init__(self) -> None:
        self._hosts: dict[int, _Known] = {}
        self._forgot_at: datetime | None = None
        self._pieces: dict[tuple[str, int], tuple[Fragments, Piece]] = {}

    def document(self, wanted: Wanted, now: datetime) -> bytes:
        """Return the body as it is sent. Raises UnknownHost."""
        hosts = self.refresh(now, wanted.host)
        fragments = [self._hosts[host.pk].fragments for host in hosts]
        others = own_names.others(hosts, now) if Names.STEPWATT in wanted.names else []
        return self.join(wanted, fragments, others)

    def refresh(self, now: datetime, name: str = "") -> list[Host]:
        """Read the host, or all of them, and return them by name. Raises UnknownHost."""
        hosts = newest.hosts(name)
        if name and not hosts:
            raise UnknownHost(name)
        ids = [host.pk for host in hosts] if name else None
        identities = newest.identities(ids)
        marks = newest.marks(hosts, is_all=not name)
        self._forget_others(marks if not name else None, now)
        rows = self._changed(marks)
        for host in hosts:
            known = self._hosts.get(host.pk)
            if known is None:
                known = self._hosts[host.pk] = _Known(host)
            known.take(host, marks[host.pk], identities.get(host.pk, []), rows.get(host.pk), now)
        return hosts

    def _forget_others(self, present: Collection[int] | None, now: datetime) -> None:
        """Forget the hosts that were removed. Where single hosts are asked for, nobody has just read which are present."""
        if present is None:
            if self._forgot_at is not None and timedelta() <= now - self._forgot_at < _FORGET_EVERY:
                return
            present = newest.host_ids()
        self._forgot_at = now
        self._hosts = {pk: known for pk, known in self._hosts.items() if pk in present}

    def join(self, wanted: Wanted, hosts: Sequence[HostFragments], others: Sequence[Family]) -> bytes:
        """Return the body that the hosts' fragments make, with the upper package's families behind the own ones."""
        columns = _columns(wanted.names, hosts, others)
        if wanted.gzip and not wanted.host:
            return gzip_of(self._pieces_of(columns, wanted))
        parts: list[bytes] = []
        for family, column in columns:
            parts += (_head(family, wanted), *column)
        body = b"".join((*parts, _end(wanted)))
        return gzip_of([piece_of(body)]) if wanted.gzip else body

    def _pieces_of(self, columns: Iterable[tuple[Family, Fragments]], wanted: Wanted) -> Iterator[Piece]:
        """Yield the body in pieces; fragments that stayed the same objects, or the same text, are not compressed again."""
        for family, column in columns:
            yield _constant_piece(_head(family, wanted))
            for first in range(0, len(column), _GROUP):
                group, key = column[first : first + _GROUP], (family.sample_name, first)
                kept = self._pieces.get(key)
                if kept is None or kept[0] != group:
                    kept = self._pieces[key] = (group, piece_of(b"".join(group)))
                yield kept[1]
        yield _constant_piece(_end(wanted))

    def _changed(self, marks: Mapping[int, Mark]) -> dict[int, tuple[int, dict[str, Any]]]:
        """Return (at_ms, readings by uuid) by host id, of the hosts whose mark is not the one they were last read at."""
        unread = [pk for pk, mark in marks.items() if pk not in self._hosts or self._hosts[pk].mark != mark]
        return {pk: (at_ms, readings) for pk, at_ms, readings in newest.changed(unread, len(marks))}


class _Known:
    """One host as it was last read."""

    def __init__(self, host: Host) -> None:
        self.mark: Mark | None = None
        self.fragments = HostFragments(HostNow(host, is_silent=True, devices=()))
        self._rows: Sequence[tuple[Any, ...]] = ()
        self._identities: Sequence[Identity] = ()
        self._at_ms = 0
        self._readings: dict[str, Any] = {}
        self._told: tuple[object, ...] | None = None

    def take(
        self,
        host: Host,
        mark: Mark,
        rows: Sequence[tuple[Any, ...]],
        read: tuple[int, dict[str, Any]] | None,
        now: datetime,
    ) -> None:
        """Take what was read; a host that sends nothing more changes too, when it falls silent."""
        if mark != self.mark:
            self._at_ms, self._readings = read or (0, {})
        is_same_identity = rows == self._rows
        if not is_same_identity:
            self._rows, self._identities = rows, ordered(Identity(*row) for row in rows)
        told = (mark, host.is_silent(now), host.name, host.cluster, host.origin, host.last_seen_at)
        if told != self._told or not is_same_identity:
            state = HostNow.of(host, self._identities, self._at_ms, self._readings, is_silent=host.is_silent(now))
            self.fragments.tell(state)
        self.mark, self._told = mark, told


def _columns(
    names: Iterable[Names], hosts: Sequence[HostFragments], others: Iterable[Family]
) -> Iterator[tuple[Family, Fragments]]:
    """Yield each family that has lines, with its fragments by host."""
    for naming in names:
        for family, column in zip(
            families(naming), zip(*(host.of(naming) for host in hosts), strict=True), strict=False
        ):
            if any(column):
                yield family, column
        if naming is Names.STEPWATT:
            for family in others:
                if family.lines:
                    yield family, ("".join(family.lines).encode(),)


def _head(family: Family, wanted: Wanted) -> bytes:
    return header(family, openmetrics=wanted.openmetrics).encode()


def _end(wanted: Wanted) -> bytes:
    return OPENMETRICS_END.encode() if wanted.openmetrics else b""


_constant_piece = lru_cache(maxsize=1024)(piece_of)
