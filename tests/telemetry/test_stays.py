"""Which host had which device when, asked of however many devices."""

import pytest

from fleet.models import Device, DeviceStay
from telemetry.store import stays
from telemetry.store.stays import FAR_MS, Stay
from tests.factories import make_device, make_host


@pytest.mark.usefixtures("each_database")
def test_a_fleet_that_has_moved_as_a_whole_is_looked_up_at_once():
    old, new = make_host("old"), make_host("new")
    moved = make_device(new)
    DeviceStay.objects.bulk_create(
        DeviceStay(device=moved, host=host, from_ms=at) for host, at in ((old, 0), (new, 1000))
    )
    moved.moved_ms = 1000
    others = [Device(pk=moved.pk + n, host=new, moved_ms=1000) for n in range(1, 300_000)]

    assert stays.of_devices([moved, *others], 0, FAR_MS)[moved.pk] == [
        Stay(old.pk, 0, 1000), Stay(new.pk, 1000, FAR_MS)
    ]  # fmt: skip
