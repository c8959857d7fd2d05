"""What a run drew in a window: the energy of its own devices in just that time; of its hosts' meters where no device is known.

Called by the figures and the API. A device that several runs used at once is shared out (energy_shares.py), which is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.models import Device
from telemetry import window_accounts
from telemetry.accounts import Account, Rates, Scope
from training import energy_shares
from training.energy_shares import Tenant
from training.intervals import Intervals
from training.models import Run, RunRank
from training.run_members import Members
from training.step_store import read

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
        return f"{what}, {how}{part}{others}"


def energy(run: Run, who: Members, start_ms: int, end_ms: int, rates: Rates | None = None) -> RunEnergy:
    """Return the run's energy over start ≤ time < end, which must not be empty."""
    rates = rates or Rates.of_settings()
    scope = Scope.DEVICE if who.devices else Scope.NODE
    devices = _wholes(who.devices) if who.devices else who.nodes
    if not devices:
        return RunEnergy(Account(run.name), [], scope, (), "neither devices nor a meter of its hosts are known")
    tenants = _others(run, devices, scope, start_ms, end_ms)
    alone = [device for device in devices if device.pk not in tenants]
    total = Account(run.name, asked_seconds=len(devices) * (end_ms - start_ms) / 1000)
    if alone:
        _add(total, window_accounts.of_window(alone, start_ms, end_ms, rates=rates), 1.0)
    for device in devices:
        if device.pk in tenants:
            _add_shared(total, device, [_tenant(run, device, scope, start_ms, end_ms), *tenants[device.pk].values()],
                        start_ms, end_ms, rates)  # fmt: skip
    names = sorted({other.name for of_device in tenants.values() for other in of_device})
    why = "" if total.covered_seconds else "neither an energy counter nor power of its devices is known in this window"
    return RunEnergy(total, devices, scope, tuple(names), why)


def _wholes(devices: Sequence[Device]) -> list[Device]:
    """Leave out parts of devices that are there as a whole: the whole's meter holds them."""
    pks = {device.pk for device in devices}
    return [device for device in devices if device.parent_id not in pks]


def _others(
    run: Run, devices: Sequence[Device], scope: Scope, start_ms: int, end_ms: int
) -> dict[int, dict[Run, Tenant]]:
    """Return the other runs on each device (on its host, for a node) in the window, by device id."""
    rows = RunRank.objects.filter(first_ms__lt=end_ms, last_ms__gt=start_ms).exclude(run=run).select_related("run")
    if scope is Scope.DEVICE:
        rows = rows.filter(device__in=devices)
    else:
        rows = rows.filter(host__in={device.host_id for device in devices})
    found: dict[int, dict[Run, Tenant]] = {}
    for device in devices:
        runs = {
            each.run
            for each in rows
            if (each.device_id if scope is Scope.DEVICE else each.host_id) == _place(device, scope)
        }
        for other in sorted(runs, key=lambda each: each.pk):
            found.setdefault(device.pk, {})[other] = _tenant(other, device, scope, start_ms, end_ms)
    return found


def _place(device: Device, scope: Scope) -> int:
    return device.pk if scope is Scope.DEVICE else device.host_id


def _tenant(run: Run, device: Device, scope: Scope, start_ms: int, end_ms: int) -> Tenant:
    there = run.ranks.filter(**({"device": device} if scope is Scope.DEVICE else {"host": device.host_id}))
    spans = list(there.values_list("rank", "first_ms", "last_ms"))
    if not spans:
        return Tenant(_NONE, start_ms, end_ms)
    ranks, first, last = zip(*spans, strict=True)
    steps = read.steps(run, start_ms, end_ms, ranks=set(ranks), columns=("seconds",))
    return Tenant(Intervals.of(steps.began_ms, steps.ended_ms), min(first), max(last))


def _add_shared(
    total: Account, device: Device, tenants: Sequence[Tenant], start_ms: int, end_ms: int, rates: Rates
) -> None:
    edges = np.unique(np.linspace(start_ms, end_ms, _SLICES + 1).astype(np.int64)).tolist()
    parts = energy_shares.shares(tenants, edges).tolist()
    for account, part in zip(window_accounts.of_windows([device], edges, rates=rates), parts, strict=True):
        _add(total, account, part)


def _add(total: Account, account: Account, part: float) -> None:
    """Add a part of an account; what is covered is covered whoever it belongs to."""
    total.measured += part * account.measured
    total.estimated += part * account.estimated
    total.covered_seconds += account.covered_seconds
    for name in ("cost", "grams_co2"):
        value = getattr(account, name)
        if value is not None:
            setattr(total, name, (getattr(total, name) or 0.0) + part * value)
    total.priced_by |= account.priced_by


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
