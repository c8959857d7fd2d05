"""Energy accounts of given devices over given windows, to the sample: what a run drew, and each stretch of it. For the runs.

Unlike accounts.py, which asks whole hosts over whole minutes, it takes the devices as they are told, and any moment as an edge.
The cost is that of the devices' own energy, PUE on top: a host's meter does not tell what one run drew.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from fleet.models import Device, DeviceKind
from telemetry.accounts.account import Account, Scope
from telemetry.models import Unreadable
from telemetry.prices.energy_rates import Rates
from telemetry.store import energy_pieces, stays, unreadable
from telemetry.store.energy_pieces import QUARTER_MS, Pieces, Whole


def of_window(devices: Sequence[Device], start_ms: int, end_ms: int, *, rates: Rates | None = None) -> Account:
    """Return the account of the devices together over start ≤ time < end; `joules` None where nothing is covered.

    Accounts of windows that adjoin add up to that of the whole. What a counter told is measured, what was made of power is
    estimated, and so is what had to be shared out by time: where an edge lies in a minute whose samples are gone. `rates`
    None leaves cost and CO₂ out. Raises ValueError where the window is empty, or where devices are told whose meters
    hold one another: a node beside its devices, a device beside its part.
    """
    (account,) = of_windows(devices, [start_ms, end_ms], rates=rates)
    return account


def of_windows(devices: Sequence[Device], edges_ms: Sequence[int], *, rates: Rates | None = None) -> list[Account]:
    """Return the same for each of the n windows between the edges `(n + 1,)`, strictly ascending; keys are their places."""
    found = [Account(str(place)) for place in range(len(edges_ms) - 1)]
    for pieces in _pieces(devices, edges_ms, rates):
        _enter(found, pieces.windows, pieces, rates)
    for account, start_ms, end_ms in zip(found, edges_ms, edges_ms[1:], strict=False):
        account.asked_seconds = len(devices) * (end_ms - start_ms) / 1000
    for row in _unread(devices, edges_ms[0], edges_ms[-1]):
        for account, start_ms, end_ms in zip(found, edges_ms, edges_ms[1:], strict=False):
            account.is_unread |= row.start_ms < end_ms and start_ms < row.end_ms
    return found


def by_device(
    devices: Sequence[Device], start_ms: int, end_ms: int, *, rates: Rates | None = None
) -> dict[str, Account]:
    """Return the same of one window for each device for itself, by its UUID."""
    ordered = sorted(devices, key=lambda device: device.pk)
    ids = np.array([device.pk for device in ordered], np.int64)
    found = [Account(device.uuid, asked_seconds=(end_ms - start_ms) / 1000) for device in ordered]
    for pieces in _pieces(ordered, [start_ms, end_ms], rates):
        _enter(found, np.searchsorted(ids, pieces.device_ids), pieces, rates)
    for row in _unread(ordered, start_ms, end_ms):
        for account, device in zip(found, ordered, strict=True):
            account.is_unread |= row.uuid == device.uuid or (not row.uuid and row.host_id == device.host_id)
    return {account.key: account for account in found}


def _unread(devices: Sequence[Device], start_ms: int, end_ms: int) -> list[Unreadable]:
    """Return what cannot be read of the devices, or of batches of the hosts that had them: of which devices is not known."""
    noted, uuids = unreadable.touching(None, start_ms, end_ms), {device.uuid for device in devices}
    hosts = stays.hosts_of(devices, start_ms, end_ms) if noted else set()
    return [row for row in noted if row.uuid in uuids or (not row.uuid and row.host_id in hosts)]


def _pieces(devices: Sequence[Device], edges_ms: Sequence[int], rates: Rates | None) -> Iterable[Pieces]:
    edges = np.array(edges_ms, np.int64)
    if edges.size < 2 or (np.diff(edges) <= 0).any():
        raise ValueError("a window ends after it begins")
    if len({device.kind == DeviceKind.NODE for device in devices}) == 2:
        raise ValueError("a node's meter holds its devices already: they are never added")
    ids = {device.pk for device in devices}
    if any(device.parent_id in ids for device in devices):
        raise ValueError("a device holds its parts already: they are never added")
    has_bands = rates is not None and rates.tariff is not None and bool(rates.tariff.bands)
    split = rates.mixed_quarters(edges_ms[0] - QUARTER_MS, edges_ms[-1] + QUARTER_MS) if rates else []
    return energy_pieces.read(devices, edges, by_quarters=has_bands, split=split)


def _enter(accounts: Sequence[Account], places: Whole, pieces: Pieces, rates: Rates | None) -> None:
    """Enter the pieces into the accounts at `places (p,)`."""
    sums = [
        np.bincount(places, values, minlength=len(accounts)).tolist()
        for values in (pieces.measured, pieces.estimated, pieces.covered_seconds)
    ]
    for account, measured, estimated, covered in zip(accounts, *sums, strict=True):
        account.measured += measured
        account.estimated += estimated
        account.covered_seconds += covered
    if rates is not None:
        for place in np.unique(places).tolist():
            _charge(accounts[place], pieces, np.flatnonzero(places == place), rates)


def _charge(account: Account, pieces: Pieces, rows: Whole, rates: Rates) -> None:
    joules, lengths = pieces.measured[rows] + pieces.estimated[rows], (pieces.ends_ms - pieces.starts_ms)[rows]
    for length in np.unique(lengths).tolist():
        alike = lengths == length
        account.charge(rates.cost(joules[alike], pieces.starts_ms[rows][alike], length))
    grams = rates.grams(joules)
    account.grams_co2 = account.grams_co2 if grams is None else (account.grams_co2 or 0.0) + grams
    account.priced_by = {Scope.DEVICE} if account.cost is not None else set()
