"""What a host says of itself in its batches, kept: devices, software, topology, machine. Called by the ingest.

Every function costs nothing, or one query, where nothing has changed.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fleet.inventory import events
from fleet.models import Device, DeviceKind, EventKind, Host, Origin
from telemetry.message.wire import Batch, DeviceInfo
from telemetry.receiving import moving
from telemetry.receiving.moving import Names
from telemetry.store import latest

# Longer than a reboot with its memory test, so that nobody takes a device from a host that is about to come back; short
# enough to move a board by hand. Whoever has the device then keeps it, as long as it reports: see docs/agents.md.
LET_GO_AFTER = timedelta(minutes=15)
_OF_THE_MACHINE = {DeviceKind.CPU, DeviceKind.NODE}
_SAID = ("kind", "index", "model", "pci_bus_id", "driver_version", "parent__uuid", "profile")


class Told(NamedTuple):
    """The devices that a batch of the host names, and the times of its first and last samples."""

    host: Host
    devices: Sequence[DeviceInfo]
    first_ms: int
    last_ms: int


class _Kept(NamedTuple):
    """What is kept of a device: since when it is with its host, where it was with another, and `said` as `_SAID` has it."""

    moved_ms: int | None
    said: tuple[Any, ...]


def know(named: Sequence[Told], now: datetime, names: Names | None = None) -> None:
    """Keep what hosts say of their devices, one after another. Costs one query in all where nothing has changed.

    With `names` it raises NotRead where a host's batches are to be read before (moving.py).
    """
    held = _held({told.host.pk for told in named})
    if made := _make_new(named, held):
        held |= _held(made)
    for told in named:
        here = held.get(told.host.pk, {})
        if any(_is_news(here.get(info.uuid), info, told) for info in told.devices):
            know_devices(told, now, names)
            uuids = {info.uuid for info in told.devices}
            held |= _held({told.host.pk, *(pk for pk, devices in held.items() if not uuids.isdisjoint(devices))})


def _is_news(kept: _Kept | None, info: DeviceInfo, told: Told) -> bool:
    if kept is None or kept.said != _said(info):
        return True
    return kept.moved_ms is not None and told.first_ms < kept.moved_ms


def _make_new(named: Sequence[Told], held: Mapping[int, Mapping[str, object]]) -> set[int]:
    """Make rows for whole devices that nobody has named before, of all hosts at once; returns the hosts that have new ones.

    A fleet may come in one go, and thousands of statements would keep every other writer waiting. Of two hosts that name one
    device the first has it.
    """
    asked: dict[str, tuple[Host, DeviceInfo]] = {}
    for told in named:
        for info in told.devices:
            if not info.parent and info.uuid not in held.get(told.host.pk, ()):
                asked.setdefault(info.uuid, (told.host, info))
    there = set(Device.objects.filter(uuid__in=asked).values_list("uuid", flat=True)) if asked else set()
    new = [(host, info) for uuid, (host, info) in asked.items() if uuid not in there]
    rows = [Device(uuid=info.uuid, **_fields(host, info, {}, set())) for host, info in new]
    Device.objects.bulk_create(rows, ignore_conflicts=True)  # another worker may make one at the same moment
    return {host.pk for host, _ in new}


def _held(hosts: set[int]) -> dict[int, dict[str, _Kept]]:
    """Return by host and uuid what is kept of the devices."""
    held: dict[int, dict[str, _Kept]] = {pk: {} for pk in hosts}
    rows = Device.objects.filter(host__in=hosts).order_by().values_list("host_id", "uuid", "moved_ms", *_SAID)
    for host_id, uuid, moved_ms, *said in rows:
        held[host_id][uuid] = _Kept(moved_ms, tuple(said))
    return held


def _said(info: DeviceInfo) -> tuple[Any, ...]:
    return (
        info.kind.value, info.index, info.model, info.pci_bus_id[:32], info.driver_version[:100], info.parent or None,
        info.profile[:40],
    )  # fmt: skip


def know_devices(told: Told, now: datetime, names: Names | None = None) -> None:
    """Make rows for new devices, keep what the driver says of the others.

    A device of another host moves here where that one does not use it any more; else it stays there, and both are events.
    What comes late, of a time before it came to its present host, changes nothing. A part comes after its whole, in whatever
    order the batch has them.
    """
    host, infos = told.host, told.devices
    uuids = {info.uuid for info in infos} | {info.parent for info in infos if info.parent}
    known = {device.uuid: device for device in Device.objects.select_related("host").filter(uuid__in=uuids)}
    parts = {info.uuid for info in infos if info.parent}
    for info in sorted(infos, key=lambda info: info.uuid in parts):
        device, fields = known.get(info.uuid), _fields(host, info, known, parts)
        if device is None:
            known[info.uuid] = Device.objects.create(uuid=info.uuid, **fields)
        elif device.host_id != host.pk and not _comes(device, told, now, names or Names(is_lazy=True)):
            continue
        elif any(getattr(device, name) != value for name, value in fields.items()):
            Device.objects.filter(pk=device.pk).update(**fields)
            known[info.uuid] = Device(pk=device.pk, uuid=info.uuid, **fields)
        if device is not None and device.host_id == host.pk:
            moving.tell_late(device, host, told.first_ms, told.last_ms)


def _comes(device: Device, told: Told, now: datetime, names: Names) -> bool:
    """Have a device of another host come to this one, if it may; what is decided is an event."""
    if device.moved_ms is not None and told.last_ms < device.moved_ms:
        moving.tell_late(device, told.host, told.first_ms, told.last_ms)
        return False
    if not _may_move(device, told, now):
        _note_owners(EventKind.DEVICE_CLAIMED, device, told.host, now)
        return False
    if not moving.to_host(device, told.host, names):
        return False
    _note_owners(EventKind.DEVICE_MOVED, device, told.host, now)
    return True


def _may_move(device: Device, told: Told, now: datetime) -> bool:
    """Tell whether the device's host has let it go: a recording never holds it, an agent as long as it names it.

    What is named by the machine's id (processors, the node) is never taken from a host that was heard after the claimant
    had come: those are two machines with one id, and both are there. Where a machine was given a new name, it is not so.
    """
    owner, claimant = device.host, told.host
    if owner.origin == Origin.IMPORTED or owner.heard_at is None:
        return True
    if device.kind in _OF_THE_MACHINE and owner.heard_at > (claimant.joined_at or claimant.created_at):
        return False
    newest, let_go_ms = latest.of_hosts([owner]).get(owner.pk), LET_GO_AFTER.total_seconds() * 1000
    named = newest.devices.get(device.uuid) if newest else None
    if named is not None and told.last_ms < named.at_ms - let_go_ms:
        return False  # late: its owner has named it since
    if now - owner.heard_at > LET_GO_AFTER:
        return True
    is_named = newest is None or named is None or newest.at_ms - named.at_ms <= let_go_ms
    return not is_named


def _note_owners(kind: EventKind, device: Device, host: Host, now: datetime) -> None:
    words = "moved here from" if kind == EventKind.DEVICE_MOVED else "is named by this host too, but belongs to"
    text = f"{device.title} {device.uuid} {words} {device.host.name}"
    events.record(kind, now, text, host=host, device=device, detail={"other_host": device.host.name})


def _fields(host: Host, info: DeviceInfo, known: dict[str, Device], parts: set[str]) -> dict[str, Any]:
    """A part of a part, or of a device that is not known here, has no parent; its profile still tells that it is a part."""
    parent = known.get(info.parent) if info.parent not in parts else None
    is_here = parent is not None and parent.host_id == host.pk
    return {
        "host_id": host.pk,
        "kind": info.kind.value,
        "index": info.index,
        "model": info.model,
        "pci_bus_id": info.pci_bus_id[:32],
        "driver_version": info.driver_version[:100],
        "parent_id": parent.pk if parent is not None and is_here else None,
        "profile": info.profile[:40],
    }


def read_software(hosts: Collection[Host]) -> None:
    """Read what is known of these hosts' software, in one query: under their lock, so that of two batches one finds a change."""
    found = dict(Host.objects.filter(pk__in=[host.pk for host in hosts]).values_list("pk", "software")) if hosts else {}
    for host in hosts:
        host.software = found.get(host.pk, {})


def know_host(host: Host, batch: Batch, tells: Collection[str]) -> None:
    """Keep software, topology and machine where the batch tells them; what changed becomes an event.

    `tells` names those of software and topology of which no newer batch has told: batches may come in any order. What is
    known of the software was read before (`read_software`).
    """
    newest = datetime.fromtimestamp(batch.times_ms[-1] / 1000, UTC)
    if batch.software is not None and "software" in tells and host.software != batch.software:
        _keep_software(host, dict(batch.software), newest)
    if batch.topology is not None and "topology" in tells:
        told = {"links": [list(link) for link in batch.topology.links], "numa": dict(batch.topology.numa)}
        if host.topology != told:
            Host.objects.filter(pk=host.pk).update(topology=told)
            host.topology = told
    if batch.machine and batch.machine != host.machine:
        _check_machine(host, batch, newest)


def _keep_software(host: Host, software: dict[str, str], at: datetime) -> None:
    before, host.software = host.software, software
    names = sorted(before.keys() | software.keys())
    changed = {name: [before.get(name), software.get(name)] for name in names if before.get(name) != software.get(name)}
    if not changed:
        return
    Host.objects.filter(pk=host.pk).update(software=software)
    if before:
        words = ", ".join(f"{name} {old or 'none'} → {new or 'gone'}" for name, (old, new) in changed.items())
        events.record(EventKind.SOFTWARE_CHANGED, at, words, host=host, detail={"changed": changed})


def _check_machine(host: Host, batch: Batch, at: datetime) -> None:
    """Take the first machine that a joined host names; another one with the same key is a copy, or was moved."""
    if Host.objects.filter(pk=host.pk, machine="").update(machine=batch.machine):
        host.machine = batch.machine
        return
    host.refresh_from_db(fields=["machine"])
    if host.machine == batch.machine:
        return
    text = f"the key of {host.name} is used on another machine than the one that joined"
    detail = {"machine": batch.machine, "joined_machine": host.machine, "epoch": batch.epoch}
    events.record(EventKind.CLONED_KEY, at, text, host=host, detail=detail)
