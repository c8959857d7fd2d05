"""Idle waste: what devices drew while they did nothing for over ten minutes, by who had them, and what it cost. For the API.

Of the devices that figures speak of: a host's accelerators, or its CPUs where it has none. The cost is that of the devices'
own energy, PUE on top: a host's meter does not tell which of its devices idled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from telemetry.accounts import accounts
from telemetry.accounts.accounts import AccountDevice
from telemetry.energy_rates import JOULES_PER_KWH, Rates
from telemetry.health import allocation
from telemetry.health.allocation import Allocated
from telemetry.store import idle_rows
from telemetry.store.idle_quarters import ALLOCATED, FREE, QUARTER_MS, UNKNOWN
from telemetry.store.idle_rows import IdleRows
from telemetry.store.samples import Floats

_STATES = {ALLOCATED: Allocated.ALLOCATED, FREE: Allocated.FREE, UNKNOWN: Allocated.UNKNOWN}


class IdleDevice(AccountDevice, Protocol):
    """What accounts of waste ask of a device: a host's label may name it by its index."""

    @property
    def index(self) -> int: ...


@dataclass(slots=True)
class Waste:
    """`cost` is None without a price."""

    joules: float = 0.0
    seconds: float = 0.0
    cost: float | None = None

    @property
    def kwh(self) -> float:
        return self.joules / JOULES_PER_KWH

    def add(self, joules: float, seconds: float, cost: float | None) -> None:
        self.joules += joules
        self.seconds += seconds
        self.cost = self.cost if cost is None else (self.cost or 0.0) + cost


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
    devices: Iterable[IdleDevice], start_ms: int, end_ms: int, *, group_by: str, rates: Rates, zone: ZoneInfo
) -> IdleAccounts:
    """Return the waste over whole quarters of an hour; `group_by` as in accounts.py.

    What nobody told at the time goes by the host's label `allocated`, as it stands now.
    """
    counted = {device.pk: device for device in accounts.counted_of(devices)}
    book = _Book(counted, group_by, rates, zone)
    for rows in idle_rows.read(sorted({device.host_id for device in counted.values()}), start_ms, end_ms):
        book.enter(rows)
    return IdleAccounts(book.total, [book.groups[key] for key in sorted(book.groups)])


def of_devices(devices: Iterable[AccountDevice], start_ms: int, end_ms: int) -> IdleAccount:
    """Return the waste of these devices together, whoever had them, over the whole quarters of an hour within the window."""
    start_ms, end_ms = -(-start_ms // QUARTER_MS) * QUARTER_MS, end_ms // QUARTER_MS * QUARTER_MS
    found, hosts = IdleAccount(""), {device.pk: device.host_id for device in devices}
    for rows in idle_rows.read(sorted(set(hosts.values())), start_ms, end_ms) if start_ms < end_ms else ():
        own = np.isin(rows.device_ids, list(hosts))
        found.known_seconds += float(rows.known_seconds[own].sum())
        found.known_joules += float(rows.known_joules[own].sum())
        for argument in _STATES:
            found.total.add(float(rows.joules[argument][own].sum()), float(rows.seconds[argument][own].sum()), None)
    return found


class _Book:
    """Enters rows of waste into accounts by group."""

    def __init__(self, devices: Mapping[int, IdleDevice], group_by: str, rates: Rates, zone: ZoneInfo) -> None:
        self._devices, self._group_by, self._rates, self._zone = devices, group_by, rates, zone
        self.total = self._begun("")
        self.groups: dict[str, IdleAccount] = {}
        if group_by not in {"", "day"}:
            for device in devices.values():
                self._group(accounts.key_of(device, group_by))

    def enter(self, rows: IdleRows) -> None:
        if self._group_by != "day":
            self._enter(rows, "")
            return
        days: dict[str, list[int]] = {}
        for place, start in enumerate(rows.starts_ms.tolist()):
            days.setdefault(datetime.fromtimestamp(start / 1000, self._zone).date().isoformat(), []).append(place)
        for day, places in days.items():
            self._enter(rows.of_buckets(places), day)

    def _enter(self, rows: IdleRows, day: str) -> None:
        known = rows.known_seconds.sum(axis=1).tolist()
        idle = {argument: rows.seconds[argument].sum(axis=1).tolist() for argument in _STATES}
        for place, pk in enumerate(rows.device_ids.tolist()):
            if pk not in self._devices:
                continue
            device = self._devices[pk]
            entered = self._accounts(device, day)
            for account in entered:
                account.known_seconds += known[place]
            for argument, state in _STATES.items():
                if seconds := idle[argument][place]:
                    self._book(entered, _told(device, state), rows.joules[argument][place], seconds, rows)

    def _book(
        self, entered: Iterable[IdleAccount], state: Allocated, joules: Floats, seconds: float, rows: IdleRows
    ) -> None:
        cost = self._rates.cost(joules, rows.starts_ms, rows.step_ms)
        for account in entered:
            account.total.add(float(joules.sum()), seconds, cost)
            account.by_state[state].add(float(joules.sum()), seconds, cost)

    def _accounts(self, device: IdleDevice, day: str) -> list[IdleAccount]:
        if not self._group_by:
            return [self.total]
        return [self.total, self._group(day or accounts.key_of(device, self._group_by))]

    def _group(self, key: str) -> IdleAccount:
        if key not in self.groups:
            self.groups[key] = self._begun(key)
        return self.groups[key]

    def _begun(self, key: str) -> IdleAccount:
        """Return an account in which nothing is wasted; where there is a price, that costs nothing."""
        cost = None if self._rates.tariff is None else 0.0
        return IdleAccount(key, Waste(cost=cost), {state: Waste(cost=cost) for state in Allocated})


def _told(device: IdleDevice, state: Allocated) -> Allocated:
    return allocation.by_hand(device.host.labels, device.index).state if state is Allocated.UNKNOWN else state
