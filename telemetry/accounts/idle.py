"""Idle waste: what devices drew while they did nothing for over ten minutes, by who had them, and what it cost. For the API.

Of the devices that figures speak of: a host's accelerators, or its CPUs where it has none. The cost is that of the devices'
own energy, PUE on top: a host's meter does not tell which of its devices idled. By host, cluster and label it is that of the
host which the device was with at the time, as in accounts.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, pairwise
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from fleet.environment.tariff import has_whole_hours
from fleet.models import Device
from telemetry.accounts import accounts, days
from telemetry.accounts.members import AccountDevice, AccountHost, counted_of, is_of_hosts, key_of, key_of_host
from telemetry.health import allocation
from telemetry.health.allocation import Allocated
from telemetry.prices.energy_rates import JOULES_PER_KWH, Cost, Rates
from telemetry.store import idle_rows, stays
from telemetry.store.idle_quarters import ALLOCATED, FREE, QUARTER_MS, UNKNOWN
from telemetry.store.idle_rows import IdleRows
from telemetry.store.samples import Floats

_STATES = {ALLOCATED: Allocated.ALLOCATED, FREE: Allocated.FREE, UNKNOWN: Allocated.UNKNOWN}


class IdleDevice(AccountDevice, Protocol):
    """What accounts of waste ask of a device: a host's label may name it by its index."""

    @property
    def index(self) -> int | None: ...


@dataclass(slots=True)
class Waste:
    """`cost` is None without a price; `cost_estimated` is its part that is shared out by time, as in accounts.py.

    So is `estimated` of the joules: of the hour in which a day ends, where its quarters are not stored any more.
    """

    joules: float = 0.0
    seconds: float = 0.0
    cost: float | None = None
    cost_estimated: float = 0.0
    estimated: float = 0.0

    @property
    def estimated_share(self) -> float:
        return self.estimated / self.joules if self.joules else 0.0

    @property
    def kwh(self) -> float:
        return self.joules / JOULES_PER_KWH

    @property
    def cost_estimated_share(self) -> float | None:
        return self.cost_estimated / self.cost if self.cost else self.cost

    def add(self, joules: float, seconds: float, cost: Cost | None, *, is_shared: bool = False) -> None:
        self.joules += joules
        self.seconds += seconds
        self.estimated += joules if is_shared else 0.0
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost.whole
            self.cost_estimated += cost.whole if is_shared else cost.estimated


@dataclass(slots=True)
class IdleAccount:
    """Waste in all and by who had the devices. Where `known_seconds` is 0, nothing is known of the waste.

    `known_joules` is what the devices drew in the same quarters, wasted or not; only `of_devices` tells it.
    """

    key: str
    total: Waste = field(default_factory=Waste)
    by_state: Mapping[Allocated, Waste] = field(default_factory=lambda: {state: Waste() for state in Allocated})
    known_seconds: float = 0.0
    known_joules: float = 0.0


@dataclass(frozen=True, slots=True)
class IdleAccounts:
    total: IdleAccount
    groups: list[IdleAccount]


def idle_accounts(
    devices: Iterable[IdleDevice],
    start_ms: int,
    end_ms: int,
    now: datetime,
    *,
    group_by: str,
    rates: Rates,
    zone: ZoneInfo,
    cluster: str | None = None,
) -> IdleAccounts:
    """Return the waste over whole quarters of an hour, of a `cluster` what was wasted on its hosts; `group_by` as in accounts.py.

    What nobody told at the time goes by the host's label `allocated`, as it stands now. Waste is not known by minutes: in a
    quarter of an hour within which the price changes, its cost is shared out by time.
    """
    counted = {device.pk: device for device in counted_of(devices)}
    hosts = accounts.hosts_with(counted.values())
    hosts = {pk: host for pk, host in hosts.items() if cluster is None or host.cluster == cluster}
    may_cut = group_by == "day" and not has_whole_hours(zone, start_ms, end_ms)
    book = _Book(counted, group_by, rates, zone, hosts, may_cut=may_cut)
    has_finer = may_cut or rates.changes_within_hours(start_ms, end_ms)
    from_ms = accounts.quarters_kept_from_ms(now) if has_finer else None
    for rows in idle_rows.read(sorted(hosts), start_ms, end_ms, quarters_from_ms=from_ms):
        book.enter(rows)
    return IdleAccounts(book.total, [book.groups[key] for key in sorted(book.groups)])


def of_devices(devices: Collection[Device], start_ms: int, end_ms: int) -> IdleAccount:
    """Return the waste of these devices together, whoever had them and on whatever host, over the whole quarters within it."""
    start_ms, end_ms = -(-start_ms // QUARTER_MS) * QUARTER_MS, end_ms // QUARTER_MS * QUARTER_MS
    found, ids = IdleAccount(""), [device.pk for device in devices]
    hosts = sorted(stays.hosts_of(devices, start_ms, end_ms))
    for rows in idle_rows.read(hosts, start_ms, end_ms, with_drawn=True) if start_ms < end_ms else ():
        own = np.isin(rows.device_ids, ids)
        found.known_seconds += float(rows.known_seconds[own].sum())
        found.known_joules += float(rows.known_joules[own].sum())
        for argument in _STATES:
            found.total.add(float(rows.joules[argument][own].sum()), float(rows.seconds[argument][own].sum()), None)
    return found


class _Book:
    """Enters rows of waste into accounts by group."""

    def __init__(
        self, devices: Mapping[int, IdleDevice], group_by: str, rates: Rates, zone: ZoneInfo,
        hosts: Mapping[int, AccountHost], *, may_cut: bool,
    ) -> None:  # fmt: skip
        self._may_cut = may_cut  # a midnight the hours of rows
        self._devices, self._group_by, self._rates, self._zone = devices, group_by, rates, zone
        self._hosts, self._is_of_hosts = hosts, is_of_hosts(group_by)
        self.total = self._begun("")
        self.groups: dict[str, IdleAccount] = {}
        self._days_of: dict[bytes, tuple[list[str], list[int]]] = {}
        if group_by not in {"", "day"}:
            for device in (each for each in devices.values() if each.host_id in hosts):
                self._group(key_of(device, group_by))

    def enter(self, rows: IdleRows) -> None:
        """Enter one host's rows: of devices that go into one account as one, and only then by days."""
        by_key: dict[str, list[int]] = {}
        for place, pk in enumerate(rows.device_ids.tolist()):
            if pk in self._devices:
                by_key.setdefault(self._key(pk, rows.host_id), []).append(place)
        cut = None
        if self._may_cut and rows.step_ms > QUARTER_MS:
            _, cut = days.apart(rows, self._zone)
        if cut is not None:
            rows = rows.of_buckets(np.flatnonzero(~np.isin(rows.starts_ms, cut.starts_ms)).tolist())
        for key, places in by_key.items():
            if self._group_by != "day":
                self._enter([self._accounts(key)], [0], rows, places)
                continue
            if rows.starts_ms.size:
                names, begins = self._days(rows.starts_ms.tobytes())
                self._enter([self._accounts(name) for name in names], begins, rows, places)
            if cut is not None:
                self._enter([[self.total]], [0], cut, places)  # in all: nothing of that is shared out
                quarters = cut.in_quarters()
                names, begins = self._days(quarters.starts_ms.tobytes())
                self._enter([[self._group(name)] for name in names], begins, quarters, places, is_shared=True)

    def _key(self, pk: int, host_id: int) -> str:
        if self._group_by in {"", "day"}:
            return ""
        if self._is_of_hosts:
            return key_of_host(self._hosts[host_id], self._group_by)
        return key_of(self._devices[pk], self._group_by)

    def _enter(
        self, entered: list[list[IdleAccount]], begins: list[int], rows: IdleRows, places: list[int], *,
        is_shared: bool = False,
    ) -> None:  # fmt: skip
        """Enter the devices at `places` into the accounts of each part of the time; `begins` are those parts' first buckets."""
        known = np.add.reduceat(rows.known_seconds[places].sum(axis=0), begins).tolist()
        for some, seconds in zip(entered, known, strict=True):
            for account in some:
                account.known_seconds += seconds
        for argument, state in _STATES.items():
            if not rows.seconds[argument].any():
                continue
            by_state: dict[Allocated, list[int]] = {}
            for place in places:
                told = self._told(int(rows.device_ids[place]), rows.host_id, state)
                by_state.setdefault(told, []).append(place)
            for told, own in by_state.items():
                self._book(entered, begins, told, rows, rows.joules[argument][own].sum(axis=0),
                           rows.seconds[argument][own].sum(axis=0), is_shared=is_shared)  # fmt: skip

    def _book(
        self, entered: list[list[IdleAccount]], begins: list[int], state: Allocated, rows: IdleRows, joules: Floats,
        seconds: Floats, *, is_shared: bool,
    ) -> None:  # fmt: skip
        lasted, drawn = np.add.reduceat(seconds, begins).tolist(), _sums(joules, begins)
        ends = [*begins[1:], joules.size]
        for some, begin, end, each, sum_ in zip(entered, begins, ends, lasted, drawn, strict=True):
            if not each:
                continue
            cost = self._rates.cost(joules[begin:end], rows.starts_ms[begin:end], rows.step_ms)
            for account in some:
                account.total.add(sum_, each, cost, is_shared=is_shared)
                account.by_state[state].add(sum_, each, cost, is_shared=is_shared)

    def _days(self, starts_ms: bytes) -> tuple[list[str], list[int]]:
        """Return the days of the buckets, and the first bucket of each: hosts have the same buckets again and again."""
        found = self._days_of.get(starts_ms)
        if found is None:
            starts = np.frombuffer(starts_ms, np.int64).tolist()
            days = [datetime.fromtimestamp(start / 1000, self._zone).date().isoformat() for start in starts]
            begins = [at for at, day in enumerate(days) if at == 0 or day != days[at - 1]]
            found = self._days_of[starts_ms] = ([days[at] for at in begins], begins)
        return found

    def _accounts(self, name: str) -> list[IdleAccount]:
        return [self.total, self._group(name)] if self._group_by else [self.total]

    def _group(self, key: str) -> IdleAccount:
        if key not in self.groups:
            self.groups[key] = self._begun(key)
        return self.groups[key]

    def _begun(self, key: str) -> IdleAccount:
        """Return an account in which nothing is wasted; where there is a price, that costs nothing."""
        cost = None if self._rates.tariff is None else 0.0
        return IdleAccount(key, Waste(cost=cost), {state: Waste(cost=cost) for state in Allocated})

    def _told(self, pk: int, host_id: int, state: Allocated) -> Allocated:
        if state is not Allocated.UNKNOWN:
            return state
        return allocation.by_hand(self._hosts[host_id].labels, self._devices[pk].index).state


def _sums(values: Floats, begins: Sequence[int]) -> list[float]:
    """Return the sum of each part of `values (n,)`; of neighbours of one length, as most days are, at once."""
    found, at = list[float](), 0
    for length, alike in groupby(end - begin for begin, end in pairwise([*begins, values.size])):
        end = at + length * len(list(alike))
        found += values[at:end].reshape(-1, length).sum(axis=1).tolist()
        at = end
    return found
