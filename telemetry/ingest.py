"""From an agent's message to stored samples: checked, its host and devices known, stored once. No HTTP, no Celery."""

import logging
from datetime import datetime

from django.db import transaction

from fleet.models import Device, Host
from telemetry import wire
from telemetry.store import write
from telemetry.wire import Batch, MessageInvalid

logger = logging.getLogger(__name__)

FUTURE_MS = 60_000  # a clock further ahead than this is wrong


def ingest(host: Host, body: bytes, now: datetime) -> bool:
    """Store a batch that `host` sent; False where it changed nothing (it was stored before). Raises MessageInvalid."""
    batch = wire.unpack(body)
    if batch.host != host.name:
        raise MessageInvalid(f"host: {host.name} sent a batch that names {batch.host}")
    newest = batch.times_ms[-1]
    if newest > now.timestamp() * 1000 + FUTURE_MS:
        raise MessageInvalid(
            f"times_ms: {batch.host}'s clock is {newest / 1000 - now.timestamp():.0f} s ahead of the server's"
        )
    with transaction.atomic():
        if batch.software is not None and host.software != batch.software:
            Host.objects.filter(pk=host.pk).update(software=dict(batch.software))
        _know_devices(host, batch, now)
        return write.accept(host, batch, body, now)


def _know_devices(host: Host, batch: Batch, now: datetime) -> None:
    """Make rows for new devices and keep what the driver says of the others.

    A device may move to another host. While its old one still reports, two machines claim it (a cloned machine id, say):
    it stays where it is.
    """
    uuids = [device.uuid for device in batch.devices]
    known = {device.uuid: device for device in Device.objects.select_related("host").filter(uuid__in=uuids)}
    for info in batch.devices:
        fields = {
            "host_id": host.pk,
            "kind": info.kind.value,
            "index": info.index,
            "model": info.model,
            "pci_bus_id": info.pci_bus_id[:32],
            "driver_version": info.driver_version[:100],
        }
        device = known.get(info.uuid)
        if device is None:
            Device.objects.create(uuid=info.uuid, **fields)
        elif device.host_id != host.pk and not device.host.is_silent(now):
            logger.warning("%s and %s both claim device %s", device.host.name, host.name, info.uuid)
        elif any(getattr(device, name) != value for name, value in fields.items()):
            Device.objects.filter(pk=device.pk).update(**fields)
