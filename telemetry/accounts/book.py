"""Enters stored energy, host by host or group by group, into accounts. Called by accounts.py, and by fleet.py for the fleet.

A price is paid for what the meter shows: of a host with a node meter that, of another its devices.
"""

from collections.abc import Iterable, Mapping, Sequence
from zoneinfo import ZoneInfo

import numpy as np

from fleet.models import DeviceKind
from telemetry.accounts import days
from telemetry.accounts.account import Account, Accounts, Scope
from telemetry.accounts.asked import Asked, Span
from telemetry.accounts.members import AccountDevice, AccountHost, counted_of, is_of_hosts, key_of, key_of_host
from telemetry.models import Unreadable
from telemetry.prices.energy_rates import Cost, Rates
from telemetry.store import stays, unreadable
from telemetry.store.charging import charged_of_one
from telemetry.store.energy_rows import EnergyRows, Floats
from telemetry.store.group_energy import GroupEnergy
from telemetry.store.stays import Stay

_MINUTE_MS = 60_000
_WITHIN_HOSTS = {"device", "model"}  # groups whose members share a host's meter with others


class Book:
    """Enters rows of energy into accounts by group: of all devices, what they did on the hosts."""

    def __init__(
        self, devices: Sequence[AccountDevice], scope: Scope, group_by: str, rates: Rates, zone: ZoneInfo,
        hosts: Mapping[int, AccountHost],
    ) -> None:  # fmt: skip
        self._counted = {device.pk: device for device in counted_of(devices)}
        self._nodes = {device.pk: device for device in devices if device.kind == DeviceKind.NODE}
        self._scoped = self._counted if scope is Scope.DEVICE else self._nodes
        self._hosts, self._is_of_hosts = hosts, is_of_hosts(group_by)
        self._group_by, self._rates, self._zone = group_by, rates, zone
        self._total, self._groups = Account(""), dict[str, Account]()
        self._own: dict[int, list[Account]] = {}  # by device, where it is now; not those of days
        self._span = 0, 0

    def expect(self, start_ms: int, end_ms: int, recordings: Mapping[int, Span]) -> None:
        """Note how long each device is asked for: what share of it is covered is to be seen."""
        moved = {
            pk: [stay for stay in every if stay.host_id in self._hosts]
            for pk, every in stays.of_moved(self._scoped.keys()).items()
        }
        here = {pk: device for pk, device in self._scoped.items() if device.host_id in self._hosts}
        settled = (device.host_id for pk, device in here.items() if pk not in moved)
        asked = Asked(settled, (stay for of_device in moved.values() for stay in of_device), recordings)
        self._total.asked_seconds += asked.of_all(start_ms, end_ms)
        if self._group_by not in {"", "day"}:
            whole = {host: asked.of_stay(Stay(host, start_ms, end_ms), start_ms, end_ms) for host in self._hosts}
            for pk, device in here.items():
                own = self._accounts(device, device.host_id)
                if pk not in moved:
                    own[-1].asked_seconds += whole[device.host_id]
            for pk, of_device in moved.items():
                device = self._scoped[pk]
                for stay in of_device:
                    if seconds := asked.of_stay(stay, start_ms, end_ms):
                        self._accounts(device, stay.host_id)[-1].asked_seconds += seconds
        self._span = start_ms, end_ms
        for day, *span in days.between(*self._span, self._zone) if self._group_by == "day" else ():
            self._group(day).asked_seconds += asked.of_all(*span)

    def enter(self, rows: EnergyRows) -> None:
        if self._group_by != "day":
            self._enter(rows, "")
            return
        whole, cut = days.apart(rows, self._zone)
        for day, some in whole.items():
            self._enter(some, day)
        if cut is not None:
            self._enter(cut, "")  # in all: nothing of that is shared out
            for day, some in days.apart(cut.in_quarters(), self._zone)[0].items():
                self._enter(some, day, is_shared=True)

    def _enter(self, rows: EnergyRows, day: str, *, is_shared: bool = False) -> None:
        """Enter rows, of a day those that lie in it; where they are shared out by time, not into the total."""
        owners, of_day = rows.device_ids.tolist(), self._of_day(day, is_shared=is_shared)
        sums = (each.sum(axis=1).tolist() for each in (rows.measured, rows.estimated, rows.covered_seconds))
        for pk, measured, estimated, covered in zip(owners, *sums, strict=True):
            if pk in self._scoped and covered:
                for account in of_day or self._accounts(self._scoped[pk], rows.host_id):
                    account.measured += measured
                    account.estimated += estimated
                    account.covered_seconds += covered
        self._charge_host(rows, owners, of_day, is_shared=is_shared)
        if self._group_by in _WITHIN_HOSTS and self._rates.tells:
            joules = rows.measured + rows.estimated
            for place, pk in enumerate(owners):
                if pk in self._scoped:
                    self._charge(self._group(key_of(self._scoped[pk], self._group_by)), rows, joules[place])

    def _of_day(self, day: str, *, is_shared: bool) -> list[Account]:
        if not day:
            return []
        return [self._group(day)] if is_shared else [self._total, self._group(day)]

    def _charge_host(
        self, rows: EnergyRows, owners: Sequence[int], of_day: Sequence[Account], *, is_shared: bool
    ) -> None:
        places = [place for place, pk in enumerate(owners) if pk in self._nodes or pk in self._counted]
        if not places:
            return
        is_node = np.array([owners[place] in self._nodes for place in places])
        joules, covered = rows.measured + rows.estimated, rows.covered_seconds
        if len(places) < len(owners):
            joules, covered = joules[places], covered[places]
        by_devices, by_meters = charged_of_one(joules, covered, is_node)
        charged = list(of_day) or [self._total]
        if self._is_of_hosts:
            key = key_of_host(self._hosts[rows.host_id], self._group_by)
            if by_devices.any() or by_meters.any():
                charged.append(self._group(key))
            elif key in self._groups:
                charged.append(self._groups[key])
        self._pay(charged, rows, by_devices, by_meters, is_shared=is_shared)

    def _pay(
        self, accounts: Sequence[Account], rows: EnergyRows | GroupEnergy, by_devices: Floats, by_meters: Floats, *,
        is_shared: bool = False,
    ) -> None:  # fmt: skip
        scopes = {scope for scope, drawn in ((Scope.NODE, by_meters), (Scope.DEVICE, by_devices)) if drawn.any()}
        joules = by_devices + by_meters
        for account in accounts:
            self._charge(account, rows, joules, is_shared=is_shared)
            account.priced_by |= scopes

    def enter_fleet(self, rows: GroupEnergy) -> None:
        """Enter what the whole fleet used and is charged for; by day too."""
        self._add(self._total, rows)
        self._pay([self._total], rows, rows.by_devices, rows.by_meters)
        if self._group_by != "day":
            return
        whole, cut = days.apart(rows, self._zone)
        shared = {} if cut is None else days.apart(cut.in_quarters(), self._zone)[0]
        for by_day, is_shared in ((whole, False), (shared, True)):
            for day, some in by_day.items():
                self._add(self._group(day), some)
                self._pay([self._group(day)], some, some.by_devices, some.by_meters, is_shared=is_shared)

    def enter_group(self, key: str, rows: GroupEnergy) -> None:
        """Enter what a group of the fleet used; one that is charged for has an account, also where none of it is in scope."""
        is_charged = rows.by_devices.any() or rows.by_meters.any()
        account = self._groups.setdefault(key, Account(key)) if is_charged else self._groups.get(key)
        if account is None:
            return
        self._add(account, rows)
        if self._group_by in _WITHIN_HOSTS:
            self._charge(account, rows, rows.measured + rows.estimated)
        else:
            self._pay([account], rows, rows.by_devices, rows.by_meters)

    def _add(self, account: Account, rows: GroupEnergy) -> None:
        account.measured += float(rows.measured.sum())
        account.estimated += float(rows.estimated.sum())
        account.covered_seconds += float(rows.covered_seconds.sum())

    def _charge(
        self, account: Account, rows: EnergyRows | GroupEnergy, joules: Floats, *, is_shared: bool = False
    ) -> None:
        cost = self._rates.cost(joules, rows.starts_ms, rows.step_ms)
        account.charge(cost if cost is None or not is_shared else Cost(cost.whole, cost.whole))
        grams = self._rates.grams(joules)
        account.grams_co2 = account.grams_co2 if grams is None else (account.grams_co2 or 0.0) + grams

    def _accounts(self, device: AccountDevice, host_id: int) -> list[Account]:
        """Return the accounts of what a device in scope drew on a host."""
        if self._is_of_hosts and host_id != device.host_id:
            return [self._total, self._group(key_of_host(self._hosts[host_id], self._group_by))]
        own = self._own.get(device.pk)
        if own is None:
            is_grouped = self._group_by not in {"", "day"}
            groups = [self._group(key_of(device, self._group_by))] if is_grouped else []
            own = self._own[device.pk] = [self._total, *groups]
        return own

    def _group(self, key: str) -> Account:
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Account(key)
        return found

    def _mark_unread(self) -> None:
        """Mark the accounts of whose devices samples of the span cannot be read; of a batch it is not known whose it has."""
        asked = {**self._counted, **self._nodes} if self._rates.tells else self._scoped  # a price goes by either
        uuids, hosts = {device.uuid for device in asked.values()}, {device.host_id for device in asked.values()}
        for row in unreadable.touching(None, *self._span):
            if row.uuid in uuids or (not row.uuid and row.host_id in hosts):
                self._total.is_unread = True
                for key in self._keys_of(row, asked.values()) & self._groups.keys():
                    self._groups[key].is_unread = True

    def _keys_of(self, row: Unreadable, devices: Iterable[AccountDevice]) -> set[str]:
        if self._group_by == "day":
            span = max(row.start_ms, self._span[0]), min(row.end_ms, self._span[1])
            return {day for day, *_ in days.between(*span, self._zone)}
        if self._is_of_hosts:
            return {key_of_host(self._hosts[row.host_id], self._group_by)} if row.host_id in self._hosts else set()
        own = (each for each in devices if each.uuid == row.uuid or (not row.uuid and each.host_id == row.host_id))
        return {key_of(device, self._group_by) for device in own}

    def closed(self) -> Accounts:
        self._mark_unread()
        for account in (self._total, *self._groups.values()):
            if account.joules is None and not account.priced_by:
                account.cost = account.grams_co2 = None  # what is not known costs not nothing
                account.cost_estimated = 0.0
            elif account.cost is None and account.grams_co2 is None:
                nothing = np.zeros(1)  # all of it was drawn elsewhere, and is charged there
                account.charge(self._rates.cost(nothing, np.zeros(1, np.int64), _MINUTE_MS))
                account.grams_co2 = self._rates.grams(nothing)
        return Accounts(self._total, [self._groups[key] for key in sorted(self._groups)])
