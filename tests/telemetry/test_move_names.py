"""A device that comes to a host: what that host said of it before is looked for outside of the transaction that moves it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection

from fleet.models import Device, DeviceStay, Host
from telemetry.models import StoredBatch
from telemetry.receiving import moving
from telemetry.receiving.moving import Names, NotRead
from tests.telemetry.batches import GPU, NODE, payload, take

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
TWIN = replace(GPU, uuid="GPU-2", index=1)


def tell(host, minute):
    times = [T0 + 60_000 * minute + 10_000 * n for n in range(6)]
    epoch = f"{ord(host[-1]):032x}"
    body = payload(times, {"power_draw_watts": [100.0] * 6}, host=host, sequence=minute, others=[TWIN], epoch=epoch)
    take(body, datetime.fromtimestamp(times[-1] / 1000, UTC))
    return body


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_unpacked_once_and_none_but_the_new_one_within_the_transaction(monkeypatch):
    unpacked = []

    def unpack(body, *parts, real=moving.received.unpack):
        unpacked.append((body, connection.in_atomic_block))
        return real(body, *parts)

    tell("host-a", 0)
    for minute in range(1, 5):
        tell("host-b", minute)
    assert set(Device.objects.values_list("host__name", flat=True)) == {"host-a"}
    monkeypatch.setattr(moving.received, "unpack", unpack)

    body = tell("host-b", 30)

    assert set(Device.objects.values_list("host__name", flat=True)) == {"host-b"}
    assert set(DeviceStay.objects.filter(host__name="host-b").values_list("from_ms", flat=True)) == {T0 + 60_000}
    assert [each for each, is_inside in unpacked if is_inside] == [body]
    looked_through = [each for each, is_inside in unpacked if not is_inside and each != body]
    assert len(looked_through) == len(set(looked_through)) == 4
    assert StoredBatch.objects.filter(host__name="host-b").count() == 5


@pytest.mark.django_db
def test_what_was_not_looked_through_is_asked_for_first():
    tell("host-a", 0)
    host = Host.objects.get()
    names = Names()

    with pytest.raises(NotRead):
        list(names.since(host, GPU.uuid, T0))
    names.read(host)

    assert list(names.since(host, GPU.uuid, T0 + 5000)) == [T0 + 10_000]
    assert list(names.since(host, NODE.uuid, T0)) == []
