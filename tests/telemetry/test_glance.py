"""The fleet in columns says the same as the states of its hosts, and reads again only what has changed."""

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from fleet.models import DeviceKind, Event, EventKind, Host, Origin, Severity
from telemetry.models import LatestState
from telemetry.newest import glance, host_lines, queries
from telemetry.newest.glance import Lookout
from telemetry.newest.glance_parts import HEALTHS, METRICS
from telemetry.views.hosts import device_words
from tests.factories import CPU_READINGS, GPU_READINGS, make_device, make_gpu_host, make_host, make_latest

pytestmark = pytest.mark.django_db


def at_once(read) -> "Future[None]":
    future: Future[None] = Future()
    read()
    future.set_result(None)
    return future


@pytest.fixture
def lookout() -> Lookout:
    return Lookout(at_once)


@pytest.fixture
def mixed_fleet():
    """Of everything one: well, ill by its readings, by an XID and by an alert, lost, silent, stale, unheard, CPU, node, MIG."""
    ill, now = make_host("ill", cluster="b"), datetime.now(UTC)
    slow, lost, hit, old, well = (make_device(ill, index) for index in range(5))
    part = make_device(ill, 0, uuid="MIG-1", parent=well, profile="1g.10gb")
    readings = {
        slow: {**GPU_READINGS, "clock_event_reasons": float(0x20)},
        lost: {"xid_last": 79.0},
        well: GPU_READINGS,
    }
    state = make_latest(
        ill, {**readings, hit: GPU_READINGS, old: GPU_READINGS, part: {}}, {lost: {"power_draw_watts": "gpu_is_lost"}}
    )
    state.devices[old.uuid]["at_ms"] -= 60_000
    state.save()
    Event.objects.create(
        kind=EventKind.XID,
        severity=Severity.CRITICAL,
        host=ill,
        device=hit,
        code=79,
        text="x",
        first_at=now,
        last_at=now,
    )
    raised = make_gpu_host("raised", 2, cluster="a")
    Event.objects.create(kind=EventKind.HEALTH, severity=Severity.WARNING, host=raised, device=raised.devices.first(), rule="r",
                         subject="device:1", text="slower than its peers", first_at=now, last_at=now)  # fmt: skip
    make_gpu_host("silent", 2, silent=True)
    make_host("unheard", last_seen_at=None, heard_at=None)
    cpu = make_host("cpu")
    make_latest(
        cpu,
        {
            make_device(cpu, kind=DeviceKind.CPU): CPU_READINGS,
            make_device(cpu, uuid="NODE-1", kind=DeviceKind.NODE): {"power_draw_watts": 300.0},
        },
    )
    make_gpu_host("imported", 1, silent=True, origin=Origin.IMPORTED)


def test_columns_say_the_same_as_the_states_of_hosts(lookout, mixed_fleet):
    now = timezone.now()
    found, state = lookout.look(now), queries.fleet_state(now)
    hosts = sorted(state.hosts, key=lambda host: (host.host.cluster, host.host.name))
    devices = [device for host in hosts for device in host.counted]

    assert [host.name for host in found.hosts] == [host.host.name for host in hosts]
    assert [HEALTHS[code] for code in found.host_health] == [host.health for host in hosts]
    assert found.host_notes == [host.note for host in hosts]
    assert found.is_hot.tolist() == [device.is_slowed_by_heat for device in devices]
    assert [identity.uuid for identity in found.identities] == [device.device.uuid for device in devices]
    assert found.titles == [device.device.title for device in devices]
    assert [(HEALTHS[code], found.notes.get(at, "")) for at, code in enumerate(found.health)] == [
        (d.health, d.note) for d in devices
    ]
    np.testing.assert_array_equal(found.values, [[d.values.get(name, np.nan) for name in METRICS] for d in devices])
    assert (found.noun, found.n_counted, int(found.reporting.sum())) == (
        state.noun,
        len(state.counted),
        len(state.reporting),
    )


def test_the_table_of_hosts_says_the_same_as_their_states(lookout, mixed_fleet):
    now = timezone.now()
    found = {line.host.name: line for line in host_lines.lines(lookout.look(now))}

    for state in queries.fleet_state(now).hosts:
        line, warm = found[state.host.name], [d for d in state.counted if "temperature_celsius" in d.values]
        hottest = max(warm, key=lambda d: d.values["temperature_celsius"], default=None)
        used = [d.values["gpu_utilization_ratio"] for d in state.counted if "gpu_utilization_ratio" in d.values]
        assert (line.health, line.note, line.power) == (state.health, state.note, state.power_watts)
        assert line.devices == device_words(state)
        assert line.utilisation == (pytest.approx(sum(used) / len(used)) if used else None)
        assert line.temperature == (hottest.values["temperature_celsius"] if hottest else None)
        assert line.is_hot == (hottest is not None and hottest.is_slowed_by_heat)


def test_an_alert_of_a_host_or_of_its_silent_device_stands_in_its_line(lookout, mixed_fleet):
    now, ill = datetime.now(UTC), Host.objects.get(name="ill")
    for host, device in (
        (Host.objects.get(name="cpu"), None),
        (Host.objects.get(name="raised"), None),
        (ill, ill.devices.get(index=3)),
    ):
        Event.objects.create(kind=EventKind.HEALTH, severity=Severity.CRITICAL, host=host, device=device, rule="s",
                             subject=f"{host}:{device}", text="gone", first_at=now, last_at=now)  # fmt: skip

    found, state = lookout.look(timezone.now()), queries.fleet_state(timezone.now())
    hosts = sorted(state.hosts, key=lambda host: (host.host.cluster, host.host.name))
    assert found.host_notes == [host.note for host in hosts]
    assert [HEALTHS[code] for code in found.host_health] == [host.health for host in hosts]


def test_a_cluster_is_the_part_of_the_fleet_that_stands_in_it(lookout, mixed_fleet):
    found = lookout.look(timezone.now()).of_cluster("b")

    assert [host.name for host in found.hosts] == ["ill"]
    assert (len(found.identities), len(found.values), len(found.health)) == (5, 5, 5)
    assert found.notes[1] == "fell off the bus"


def test_only_hosts_that_changed_are_read_again(lookout, django_assert_num_queries):
    host = make_gpu_host("gpu-a01", 2)
    make_gpu_host("gpu-a02", 2)
    lookout.look(timezone.now())
    with django_assert_num_queries(4):
        lookout.look(timezone.now())

    state = LatestState.objects.get(host=host)
    state.devices[host.devices.first().uuid]["values"]["power_draw_watts"] = 123.0
    LatestState.objects.filter(host=host).update(at_ms=state.at_ms + 1, devices=state.devices)
    with django_assert_num_queries(6):
        found = lookout.look(timezone.now())
    assert np.nanmin(found.column("power_draw_watts")) == 123.0


def test_who_looks_within_a_second_sees_what_was_seen(lookout, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(glance, "SEEN_AGAIN", timedelta(seconds=1))
    make_gpu_host("gpu-a01", 2)
    now = timezone.now()
    seen = lookout.look_again(now)

    with django_assert_num_queries(0):
        assert lookout.look_again(now + timedelta(seconds=0.9)) is seen
        assert lookout.look_again(now - timedelta(seconds=0.5)) is seen  # who read the clock before the looker
    assert lookout.look_again(now + timedelta(seconds=1)).now == now + timedelta(seconds=1)


def test_a_host_that_was_removed_is_not_listed_any_more(monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr(glance, "SEEN_AGAIN", timedelta(hours=1))
    host, now = make_gpu_host("gpu-a01", 2), timezone.now()
    assert [each.name for each in glance.recent(now).hosts] == ["gpu-a01"]

    with django_capture_on_commit_callbacks(execute=True):
        remove_host(host, Actor.of_command(), now)

    assert glance.recent(now).hosts == []


def test_a_host_falls_silent_without_a_word_and_a_removed_one_is_gone(lookout):
    make_gpu_host("gpu-a01", 2)
    now = timezone.now()
    assert lookout.look(now).reporting.sum() == 2
    later = lookout.look(now + timedelta(minutes=1))
    assert (later.reporting.sum(), set(later.notes.values())) == (0, {queries.silence(later.hosts[0])})

    Host.objects.all().delete()
    assert lookout.look(now).n_counted == 0


def test_where_much_has_changed_the_page_shows_what_was_known_and_another_thread_reads(monkeypatch):
    monkeypatch.setattr(glance, "AT_ONCE", 1)
    asked = []
    lookout = Lookout(lambda read: asked.append(read) or Future())
    hosts = [make_gpu_host(f"gpu-a{n:02}", 1) for n in range(3)]
    now = timezone.now()
    assert lookout.look(now).n_counted == 3  # nothing was known: who asks waits

    LatestState.objects.filter(host__in=hosts).update(at_ms=1, devices={})
    assert (lookout.look(now).reporting.sum(), len(asked)) == (3, 1)
    assert lookout.look(now + timedelta(seconds=25)).reporting.sum() == 0  # too old to be shown
