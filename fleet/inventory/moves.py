"""Moving a device to another host, with what is kept of that: who had it when (DeviceStay). Called by telemetry.receiving."""

from django.db import transaction

from fleet.models import Device, DeviceStay


@transaction.atomic
def move(device: Device, to_host_id: int, from_ms: int) -> int | None:
    """Have the device be with the host from then on, and return from when: after its stay before began. Writes the rows.

    None where another has moved it since `device` was read.
    """
    there = Device.objects.select_for_update(no_key=True).filter(pk=device.pk, host=device.host_id)
    if not there.values_list("pk", flat=True):
        return None
    newest = DeviceStay.objects.filter(device=device.pk).order_by("-from_ms").first()
    if newest is None:
        newest = DeviceStay.objects.create(device_id=device.pk, host_id=device.host_id, from_ms=0)
    from_ms = max(from_ms, newest.from_ms + 1)
    DeviceStay.objects.create(device_id=device.pk, host_id=to_host_id, from_ms=from_ms)
    Device.objects.filter(pk=device.pk).update(host_id=to_host_id, moved_ms=from_ms)
    return from_ms


@transaction.atomic
def tell_of_past(device: Device, host_id: int, from_ms: int) -> None:
    """Note a stay that ended before the present one began, or the beginning of this one, of which nobody had told before.

    It lasts until the next one that is known.
    """
    list(Device.objects.select_for_update(no_key=True).filter(pk=device.pk).values_list("pk"))
    DeviceStay.objects.get_or_create(device_id=device.pk, from_ms=from_ms, defaults={"host_id": host_id})
