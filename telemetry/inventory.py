"""What a host says of itself in its batches, kept: devices, software, topology, machine. Called by the ingest.

Every function costs nothing, or one query, where nothing has changed.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleet import events
from fleet.models import Device, EventKind, Host
from telemetry.wire import Batch, DeviceInfo

logger = logging.getLogger(__name__)


def know_devices(host: Host, infos: Sequence[DeviceInfo], now: datetime) -> dict[str, Device]:
    """Make rows for new devices, keep what the driver says of the others; returns this host's by uuid.

    A device may move to another host. While its old one still reports, two machines claim it (a cloned machine id, say):
    it stays where it is. A part comes after its whole, in whatever order the batch has them.
    """
    uuids = {info.uuid for info in infos} | {info.parent for info in infos if info.parent}
    known = {device.uuid: device for device in Device.objects.select_related("host").filter(uuid__in=uuids)}
    parts = {info.uuid for info in infos if info.parent}
    for info in sorted(infos, key=lambda info: info.uuid in parts):
        device, fields = known.get(info.uuid), _fields(host, info, known, parts)
        if device is None:
            known[info.uuid] = Device.objects.create(uuid=info.uuid, **fields)
        elif device.host_id != host.pk and not device.host.is_silent(now):
            logger.warning("%s and %s both claim device %s", device.host.name, host.name, info.uuid)
        elif any(getattr(device, name) != value for name, value in fields.items()):
            Device.objects.filter(pk=device.pk).update(**fields)
            known[info.uuid] = Device(pk=device.pk, uuid=info.uuid, **fields)
    return {uuid: device for uuid, device in known.items() if device.host_id == host.pk}


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


def know_host(host: Host, batch: Batch, now: datetime) -> None:
    """Keep software, topology and machine where the batch tells them; what changed becomes an event."""
    newest = datetime.fromtimestamp(batch.times_ms[-1] / 1000, UTC)
    is_late = host.last_seen_at is not None and newest < host.last_seen_at <= now
    if batch.software is not None and host.software != batch.software and not is_late:
        _keep_software(host, dict(batch.software), newest)
    if batch.topology is not None and not is_late:
        told = {"links": [list(link) for link in batch.topology.links], "numa": dict(batch.topology.numa)}
        if host.topology != told:
            Host.objects.filter(pk=host.pk).update(topology=told)
    if batch.machine and batch.machine != host.machine:
        _check_machine(host, batch, newest)


def _keep_software(host: Host, software: dict[str, str], at: datetime) -> None:
    """Read under lock what stood there: of two batches at once only one finds a change."""
    before = Host.objects.select_for_update().values_list("software", flat=True).get(pk=host.pk)
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
        return
    text = f"the key of {host.name} is used on another machine than the one that joined"
    detail = {"machine": batch.machine, "joined_machine": host.machine, "epoch": batch.epoch}
    events.record(EventKind.CLONED_KEY, at, text, host=host, detail=detail)
