"""What a run drew in a window: the energy of its own devices in just that time; of its hosts' meters where no device is known.

Called by the figures and the API. A device that several runs used at once is shared out (energy_shares.py), which is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fleet.models import Device
from telemetry.accounts import windows
from telemetry.accounts.account import Account, Scope
from telemetry.prices.energy_rates import Rates
from telemetry.store import stays
from training.models import Run, RunRank
from training.runs import energy_shares
from training.runs.energy_shares import Tenant
from training.runs.members import Members, reach_ms
from training.steps.intervals import Intervals
from training.steps.store import read

_SLICES = 200  # in which a shared device's energy is taken: power follows the steps
_NONE = Intervals(np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True)
class RunEnergy:
    """`account` is of `devices` together; its joules are None where nothing is covered, and `why` says so.

    `scope` is device, or node where the run's devices are not known: a node's meter holds all that its host draws.
    `shared_with` names the other runs that used some of the devices in this window.
    """

    account: Account
    devices: Sequence[Device]
    scope: Scope
    shared_with: tuple[str, ...]
    why: str = ""

    @property
    def is_estimated(self) -> bool:
        return bool(self.shared_with) or bool(self.account.estimated)

    @property
    def words(self) -> str:
        """Return how it was measured, for people."""
        share = self.account.estimated_share
        what = "at the hosts' meters, whatever else they do" if self.scope is Scope.NODE else "of the run's own devices"
        how = (
            "measured by counters" if not share else f"{share:.0%} estimated from power, the rest measured by counters"
        )
        covered = self.account.covered_share
        part = (
            "" if covered is None or covered > 0.995 else f"; known for {covered:.0%} of the time, and no more counted"
        )
        others = (
            f"; shared out with {', '.join(self.shared_with)} by the time of their steps" if self.shared_with else ""
        )
        unread = f"; {self.account.unread}" if self.account.is_unread else ""
        return f"{what}, {how}{part}{unread}{others}"


def energy(run: Run, who: Members, start_ms: int, end_ms: int, rates: Rates | None = None) -> RunEnergy:
    """Return the run's energy over start ≤ time < end, which must not be empty: at each time of the devices it was on then."""
    rates = rates or Rates.in_force()
    first, *later = (_energy(run, each, since, until, rates) for each, since, until in who.by_time(start_ms, end_ms))
    for each in later:
        first = _joined(first, each)
    return first


def _joined(one: RunEnergy, other: RunEnergy) -> RunEnergy:
    total = one.account
    total.asked_seconds += other.account.asked_seconds
    _add(total, other.account, 1.0)
    scope = one.scope if one.scope == other.scope else Scope.NODE
    devices = list(dict.fromkeys((*one.devices, *other.devices)))
    names = tuple(sorted({*one.shared_with, *other.shared_with}))
    return RunEnergy(total, devices, scope, names, "" if total.covered_seconds else one.why)


def _energy(run: Run, who: Members, start_ms: int, end_ms: int, rates: Rates) -> RunEnergy:
    scope = Scope.DEVICE if who.devices else Scope.NODE
    devices = _wholes(who.devices) if who.devices else who.nodes
    if not devices:
        return RunEnergy(Account(run.name), [], scope, (), "neither devices nor a meter of its hosts are known")
    there = _there(devices, scope, start_ms, end_ms)
    total = Account(run.name, asked_seconds=len(devices) * (end_ms - start_ms) / 1000)
    others: set[Run] = set()
    for group in _alike(run, devices, there):
        _add_group(total, run, group, there, (start_ms, end_ms), rates)
        others |= group.others
    names = sorted({other.name for other in others})
    why = "" if total.covered_seconds else "neither an energy counter nor power of its devices is known in this window"
    return RunEnergy(total, devices, scope, tuple(names), why)


def _wholes(devices: Sequence[Device]) -> list[Device]:
    """Leave out parts of devices that are there as a whole: the whole's meter holds them."""
    pks = {device.pk for device in devices}
    return [device for device in devices if device.parent_id not in pks]


class _Group(NamedTuple):
    """Devices that the same other runs used in the window; they are shared out alike."""

    devices: list[Device]
    others: frozenset[Run]


def _there(devices: Sequence[Device], scope: Scope, start_ms: int, end_ms: int) -> dict[int, list[RunRank]]:
    """Return the processes that were on each device in the window, by its id; for a node, on the host that it was then."""
    rows = RunRank.objects.filter(first_ms__lt=end_ms, last_ms__gt=start_ms).select_related("run").defer("histogram")
    held = stays.by_host(devices, start_ms, end_ms)
    rows = rows.filter(host__in=held)
    by_uuid = {device.uuid: device.pk for device in devices}
    found: dict[int, list[RunRank]] = {}
    for row in rows:
        told: set[int | None] = {by_uuid[uuid] for uuid in row.device_uuids if uuid in by_uuid}
        nodes = held[row.host_id].ids.values() if row.host_id is not None else ()
        for place in told or {row.device_id} if scope is Scope.DEVICE else set(nodes):
            if place is not None:
                found.setdefault(place, []).append(row)
    return found


def _alike(run: Run, devices: Sequence[Device], there: Mapping[int, Sequence[RunRank]]) -> Iterable[_Group]:
    groups: dict[frozenset[Run], list[Device]] = {}
    for device in devices:
        others = frozenset(row.run for row in there.get(device.pk, ()) if row.run_id != run.pk)
        groups.setdefault(others, []).append(device)
    return [_Group(of_group, others) for others, of_group in groups.items()]


def _add_group(
    total: Account, run: Run, group: _Group, there: Mapping[int, Sequence[RunRank]], window: tuple[int, int], rates: Rates
) -> None:  # fmt: skip
    if not group.others:
        _add(total, windows.of_window(group.devices, *window, rates=rates), 1.0)
        return
    rows = [row for of_place in there.values() for row in of_place]
    tenants = [_tenant(each, rows, *window) for each in (run, *sorted(group.others, key=lambda each: each.pk))]
    edges = np.unique(np.linspace(*window, _SLICES + 1).astype(np.int64)).tolist()
    parts = energy_shares.shares(tenants, edges).tolist()
    for account, part in zip(windows.of_windows(group.devices, edges, rates=rates), parts, strict=True):
        _add(total, account, part)


def _tenant(run: Run, rows: Sequence[RunRank], start_ms: int, end_ms: int) -> Tenant:
    """Return when the run was there and in a step; ranks of a run step together, so that all its processes here are one."""
    own = [row for row in rows if row.run_id == run.pk]
    if not own:
        return Tenant(_NONE, start_ms, end_ms)
    until = end_ms + reach_ms(own)
    steps = read.steps(run, start_ms, until, ranks={row.rank for row in own}, columns=("seconds",))
    first, last = min(row.first_ms for row in own), max(row.last_ms for row in own)
    return Tenant(Intervals.of(steps.began_ms, steps.ended_ms), first, last)


def _add(total: Account, account: Account, part: float) -> None:
    """Add a part of an account; what is covered is covered whoever it belongs to."""
    total.measured += part * account.measured
    total.estimated += part * account.estimated
    total.covered_seconds += account.covered_seconds
    for name in ("cost", "grams_co2"):
        value = getattr(account, name)
        if value is not None:
            setattr(total, name, (getattr(total, name) or 0.0) + part * value)
    total.cost_estimated += part * account.cost_estimated
    total.priced_by |= account.priced_by
    total.is_unread |= account.is_unread


def by_run(runs: Mapping[Run, Members], start_ms: int, end_ms: int, rates: Rates | None = None) -> dict[Run, RunEnergy]:
    """Return the energy of each run in its own part of the window; those that were not there in it are left out."""
    found = {}
    for run, who in runs.items():
        last = run.last_step_at
        first_ms = max(start_ms, int(run.started_at.timestamp() * 1000))
        last_ms = end_ms if last is None else min(end_ms, int(last.timestamp() * 1000))
        if first_ms < last_ms:
            found[run] = energy(run, who, first_ms, last_ms, rates)
    return found
