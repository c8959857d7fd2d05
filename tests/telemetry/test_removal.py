"""A host that is removed: gone for everybody at once, with all that it measured a slice at a time, wherever that is stopped."""

import time
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from django.apps import apps
from django.db.models import CASCADE, SET_NULL

from fleet import slices
from fleet.access.audit import Actor
from fleet.inventory import events, removal
from fleet.joining.enrolment import add_host
from fleet.models import Device, DeviceStay, Event, EventKind, Host
from telemetry import rollups
from telemetry.accounts.fleet import look
from telemetry.maintenance import upkeep
from telemetry.maintenance.noted import noted
from telemetry.models import AcceptedSequences, Chunk, LatestState, MaintenanceRun, Rollup, StoredBatch
from telemetry.receiving import ingest
from telemetry.store import compact, samples
from tests.telemetry.batches import GPU, NODE, enrolled, payload, take

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
NOW = datetime.fromtimestamp(T0 / 1000 + 7200, UTC)
ADA = Actor("ada")


def tell(host, sequence, *, minute=0, device=GPU, others=()):
    times = [T0 + 60_000 * minute + 1000 * n for n in range(60)]
    body = payload(
        times, {"power_draw_watts": [100.0] * 60}, host=host, sequence=sequence, device=device, others=others
    )
    take(body, datetime.fromtimestamp(times[-1] / 1000, UTC))


@pytest.fixture
def host(each_database, settings):
    """A host with samples in chunks and in batches, rollups of all of them, and many events."""
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400
    for sequence, minute in enumerate((0, 1)):
        tell("gpu-a01", sequence, minute=minute, others=[NODE])
    compact.compact(NOW, 60)
    tell("gpu-a01", 2, minute=70, others=[NODE])
    rollups.roll_up(60, NOW)
    found = Host.objects.get()
    for day in range(5):
        events.record(EventKind.SOFTWARE_CHANGED, NOW - timedelta(days=day), "changed", host=found)
    assert StoredBatch.objects.exists()
    assert Chunk.objects.exists()
    return found


def hangs_on_a_host():
    """Return the models of which rows still belong to a host or a device, or did."""
    found = set()
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if field.related_model in {Host, Device} and model._base_manager.exclude(**{field.name: None}).exists():
                found.add(model.__name__)
    return found


def test_all_of_it_goes_and_what_is_told_of_it_stays(host):
    removal.remove_host(host, ADA, NOW)

    assert (Host.every.count(), Device.every.count(), hangs_on_a_host()) == (0, 0, set())
    assert Event.objects.get().text == "gpu-a01 was removed with its 2 devices by ada"


def test_wherever_it_is_stopped_the_host_is_gone_and_the_upkeep_deletes_the_rest(host, monkeypatch):
    monkeypatch.setattr(slices, "MOST_ROWS", 2)
    n_slices = [0]

    def killed_now_and_then(rows, real=slices.delete_some):
        went = real(rows)
        n_slices[0] += bool(went)
        if went and n_slices[0] % 2:
            raise KeyboardInterrupt
        return went

    monkeypatch.setattr(slices, "delete_some", killed_now_and_then)
    with pytest.raises(KeyboardInterrupt):
        removal.remove_host(host, ADA, NOW)
    n_stops = 0
    while Host.every.exists():
        assert not Host.objects.exists()
        assert not Device.objects.exists()
        assert not LatestState.objects.exists()
        assert (look().devices, look().hosts) == ([], {})
        try:
            removal.clear(inf)
        except KeyboardInterrupt:
            n_stops += 1

    assert n_stops > 3
    assert hangs_on_a_host() == set()


def test_the_upkeep_goes_on_where_its_time_was_up(host):
    removal.remove_host(host, ADA, NOW, deadline=time.monotonic())
    assert Host.every.exists()

    with noted("removed hosts", NOW) as run:
        upkeep._PARTS["removed hosts"](run, NOW, inf)

    assert not Host.every.exists()
    assert MaintenanceRun.objects.get(name="removed hosts").done > 0


def test_its_name_and_its_devices_are_free_while_it_is_still_on_its_way(host):
    before = Device.objects.get(uuid=GPU.uuid).pk
    removal.remove_host(host, ADA, NOW, deadline=time.monotonic())

    assert add_host("gpu-a01", None, None, ADA, NOW)[0].pk != host.pk
    tell("gpu-a02", 0, minute=80)

    device = Device.objects.get(uuid=GPU.uuid)
    assert (device.host.name, device.moved_ms, device.pk == before) == ("gpu-a02", None, False)
    assert samples.of_device(device, "power_draw_watts", 0, 2**60).times_ms.size == 60
    removal.clear(inf)
    assert samples.of_device(device, "power_draw_watts", 0, 2**60).times_ms.size == 60
    assert sorted(Host.every.values_list("name", flat=True)) == ["gpu-a01", "gpu-a02"]


def test_a_batch_of_it_that_was_on_its_way_is_not_stored(host):
    n_batches = StoredBatch.objects.count()
    removal._take_out(host, ADA, NOW)

    tell_as(host, 9)

    assert (StoredBatch.objects.count(), AcceptedSequences.objects.filter(host=host).count()) == (n_batches, 1)


def tell_as(host, sequence):
    """Have a batch come of which it was seen whose it is before the host was removed."""
    body = payload([T0 + 100 * 60_000], {"power_draw_watts": [1.0]}, sequence=sequence)
    assert not ingest.ingest(host, body, NOW)


def test_what_has_moved_on_keeps_what_it_did_since(host):
    tell("gpu-a02", 0, minute=100)
    rollups.roll_up(60, NOW)
    device = Device.objects.get(uuid=GPU.uuid)
    assert device.host.name == "gpu-a02"

    removal.remove_host(host, ADA, NOW)

    assert DeviceStay.objects.exclude(host__name="gpu-a02").count() == 0
    assert samples.of_device(device, "power_draw_watts", 0, 2**60).times_ms.size >= 60
    assert set(Rollup.objects.values_list("host__name", flat=True)) == {"gpu-a02"}


def test_somebody_else_who_removes_it_too_changes_nothing(host):
    enrolled("gpu-a02")
    removal.remove_host(host, ADA, NOW)
    removal.remove_host(Host(pk=host.pk, name=host.name), ADA, NOW)

    assert Event.objects.filter(kind=EventKind.HOST_REMOVED).count() == 1
    assert Host.objects.get().name == "gpu-a02"


def test_it_is_known_of_every_model_what_becomes_of_it():
    for model in (Host, Device):
        for _, relation in removal._hanging(model, []):
            assert relation.on_delete in {CASCADE, SET_NULL}, relation
