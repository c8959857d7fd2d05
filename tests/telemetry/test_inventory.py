"""What a host says of itself in its batches: devices and their parts, software, topology, machine, its agent's life."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Device, Event, EventKind, Host, Origin
from telemetry.message import wire
from telemetry.message.wire import DeviceEvent, DeviceProcess, Topology
from telemetry.message.wire import EventKind as DriverEvent
from telemetry.newest.queries import host_state
from telemetry.receiving import inventory
from telemetry.receiving.inventory import LET_GO_AFTER, Told
from tests.factories import make_device, make_host
from tests.telemetry.batches import GPU, MIG, NODE, batch, enrolled, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T0 = int(NOW.timestamp() * 1000) - 600_000
ONE, OTHER = "1" * 32, "2" * 32

pytestmark = pytest.mark.django_db


def send(second=0, *, power=300, now=NOW, **kwargs):
    """Take a batch with one tick, `second` after T0."""
    body = payload([T0 + 1000 * second], {"power_draw_watts": [power]}, sequence=second, **kwargs)
    return take(body, now)


def shown(now=NOW):
    return [d.device.uuid for d in host_state(Host.objects.get(), now).devices]


def events(kind):
    return list(Event.objects.filter(kind=kind))


def test_a_part_stands_under_its_whole_in_whatever_order_they_come():
    send(device=MIG, others=[GPU])

    part = Device.objects.get(uuid=MIG.uuid)
    assert (part.parent.uuid, part.profile) == (GPU.uuid, "1g.10gb")
    assert Device.objects.get(uuid=GPU.uuid).parent is None


def test_a_part_is_not_counted_beside_its_whole():
    send(others=[MIG, NODE])

    assert [d.device.uuid for d in host_state(Host.objects.get(), NOW).counted] == [GPU.uuid]


@pytest.mark.parametrize("parent", ["GPU-nobody-knows", MIG.uuid])
def test_a_part_of_nothing_known_is_still_no_whole(parent):
    send(others=[replace(MIG, parent=parent)])

    assert Device.objects.get(uuid=MIG.uuid).parent is None
    assert [d.device.uuid for d in host_state(Host.objects.get(), NOW).counted] == [GPU.uuid]


def test_a_part_that_its_host_does_not_name_any_more_is_gone_from_the_pages():
    send(0, others=[MIG])
    send(1, others=[replace(MIG, uuid="MIG-2")])

    assert shown() == [GPU.uuid, "MIG-2"]


def test_a_whole_that_its_host_does_not_name_any_more_is_said_to_be_silent():
    send(0, others=[replace(GPU, uuid="GPU-2", index=1)])
    send(60)

    state = host_state(Host.objects.get(), NOW).devices[1]
    assert (state.device.uuid, state.health, state.note) == (
        "GPU-2",
        "silent",
        "its host reports, this device does not",
    )


def test_a_device_whose_profile_changed_is_the_same_device():
    send(0, others=[MIG])
    send(1, others=[replace(MIG, profile="2g.20gb")])

    assert Device.objects.get(uuid=MIG.uuid).profile == "2g.20gb"


def test_who_uses_a_device_is_known_until_it_is_old():
    train = DeviceProcess(4711, "train.py", "vera", 69 * 2**30, 0.94, slurm_job="812")
    send(0, processes={GPU.uuid: [train]})
    send(30)
    assert host_state(Host.objects.get(), NOW).devices[0].users.processes == [train]

    send(90)
    assert host_state(Host.objects.get(), NOW).devices[0].users is None


def test_a_device_that_nobody_uses_is_not_one_of_which_nothing_is_known():
    send(processes={GPU.uuid: []})

    assert host_state(Host.objects.get(), NOW).devices[0].users.processes == []


def test_the_topology_is_kept_until_another_one_comes():
    send(0, topology=Topology([(GPU.uuid, "GPU-2", "NV18")], {GPU.uuid: 1}))
    send(1)

    assert Host.objects.get().topology == {"links": [[GPU.uuid, "GPU-2", "NV18"]], "numa": {GPU.uuid: 1}}


def test_the_first_software_is_no_change():
    send(software={"driver": "575.57.08"})

    assert Host.objects.get().software == {"driver": "575.57.08"}
    assert events(EventKind.SOFTWARE_CHANGED) == []


def test_a_change_of_software_is_an_event_that_names_old_and_new():
    send(0, software={"driver": "575.57.08", "cuda": "12.9", "nccl": "2.27"})
    send(1, software={"driver": "580.105.08", "cuda": "12.9", "torch": "2.13.0"})

    (event,) = events(EventKind.SOFTWARE_CHANGED)
    assert event.text == "driver 575.57.08 → 580.105.08, nccl 2.27 → gone, torch none → 2.13.0"
    assert event.detail["changed"]["driver"] == ["575.57.08", "580.105.08"]
    assert event.first_at == datetime.fromtimestamp(T0 / 1000 + 1, UTC)


def test_a_late_batch_does_not_bring_old_software_back():
    send(5, software={"driver": "580.105.08"})
    send(1, software={"driver": "575.57.08"})

    assert Host.objects.get().software == {"driver": "580.105.08"}


def test_the_software_of_a_first_batch_that_comes_late_is_kept():
    told = Topology([(GPU.uuid, "GPU-2", "NV18")], {})
    body = wire.pack(replace(batch([T0 + 5000], {"power_draw_watts": [1]}, sequence=5), software=None))
    take(body, NOW)
    send(1, software={"driver": "580.105.08"}, topology=told)

    host = Host.objects.get()
    assert (host.software, host.topology["links"]) == ({"driver": "580.105.08"}, [[GPU.uuid, "GPU-2", "NV18"]])


def test_late_software_that_is_newer_than_what_is_kept_takes_its_place():
    send(1, software={"driver": "575.57.08"})
    take(wire.pack(replace(batch([T0 + 9000], {"power_draw_watts": [1]}, sequence=9), software=None)), NOW)
    send(5, software={"driver": "580.105.08"})

    assert Host.objects.get().software == {"driver": "580.105.08"}


def test_a_late_topology_does_not_bring_the_one_before_back():
    send(5, topology=Topology([(GPU.uuid, "GPU-2", "NV18")], {}))
    send(1, topology=Topology([(GPU.uuid, "GPU-2", "SYS")], {}))

    assert Host.objects.get().topology["links"] == [[GPU.uuid, "GPU-2", "NV18"]]


def test_a_device_that_moved_is_an_event_of_its_new_host():
    send(0)
    send(1, host="gpu-a02", now=NOW + LET_GO_AFTER + timedelta(seconds=1))

    (event,) = events(EventKind.DEVICE_MOVED)
    assert (event.host.name, event.device.uuid, event.detail["other_host"]) == ("gpu-a02", GPU.uuid, "gpu-a01")
    assert event.text == f"GPU 0 {GPU.uuid} moved here from gpu-a01"


def test_a_device_stays_with_a_host_that_reboots_and_its_claim_is_an_event():
    send(0)
    for second in (0, 5):
        send(1 + second, host="gpu-a02", now=NOW + LET_GO_AFTER - timedelta(seconds=10 - second))

    (event,) = events(EventKind.DEVICE_CLAIMED)
    assert Device.objects.get().host.name == "gpu-a01"
    assert (event.severity, event.host.name, event.device.uuid, event.count) == ("warning", "gpu-a02", GPU.uuid, 2)


def test_the_host_of_before_that_names_a_moved_device_again_is_told_of():
    later = NOW + LET_GO_AFTER + timedelta(minutes=1)
    send(0)
    send(1, host="gpu-a02", now=later)
    send(2, now=later)

    (event,) = events(EventKind.DEVICE_CLAIMED)
    assert (event.host.name, Device.objects.get().host.name) == ("gpu-a01", "gpu-a02")


def test_a_board_that_was_put_into_another_host_moves_though_its_old_host_reports():
    other, later = replace(GPU, uuid="GPU-2", index=1), NOW + timedelta(minutes=20)
    send(0, others=[other])
    send(1200, now=later)
    send(1201, host="gpu-a02", device=other, now=later)

    assert Device.objects.get(uuid="GPU-2").host.name == "gpu-a02"


@pytest.mark.parametrize(("joined", "owner"), [(-1, "gpu-a01"), (1, "gpu-a02")])
def test_what_the_machines_id_names_moves_only_to_a_host_that_came_after_the_other_was_last_heard(joined, owner):
    send(0, device=NODE)
    enrolled("gpu-a02", joined_at=NOW + timedelta(minutes=joined))
    send(1, device=NODE, host="gpu-a02", now=NOW + timedelta(days=2))

    assert Device.objects.get().host.name == owner


def test_a_recording_gives_its_device_to_the_host_that_reports_it():
    recorded = make_host("log", origin=Origin.IMPORTED)
    make_device(recorded, uuid=GPU.uuid)
    send(0)

    assert Device.objects.get().host.name == "gpu-a01"
    assert [event.detail["other_host"] for event in events(EventKind.DEVICE_MOVED)] == ["log"]


def test_a_joined_host_takes_the_first_machine_that_it_names():
    send(machine=ONE)

    assert Host.objects.get().machine == ONE
    assert events(EventKind.CLONED_KEY) == []


def test_a_key_on_another_machine_is_an_event():
    enrolled(machine=ONE)
    send(0, machine=OTHER)
    send(1, machine=OTHER)

    (event,) = events(EventKind.CLONED_KEY)
    assert (event.severity, event.count) == ("critical", 2)
    assert (event.detail["machine"], event.detail["joined_machine"]) == (OTHER, ONE)
    assert Host.objects.get().machine == ONE


def test_two_lives_of_an_agent_at_once_are_an_event():
    send(0, epoch=ONE)
    send(1, epoch=OTHER)
    send(300, epoch=ONE)

    (event,) = events(EventKind.CLONED_KEY)
    assert (event.detail["epoch"], event.detail["other_epoch"]) == (ONE, OTHER)
    assert event.detail["other_began_ms"] == T0 + 1000


def test_a_restarted_agent_is_no_clone():
    send(0, epoch=ONE)
    send(300, epoch=OTHER)
    send(301, epoch=OTHER)

    assert events(EventKind.CLONED_KEY) == []


def test_a_late_batch_of_the_life_before_is_no_clone():
    send(0, epoch=ONE)
    send(300, epoch=OTHER)
    send(299, epoch=ONE)
    send(302, epoch=ONE)  # and a clock that was set back a little while it restarted

    assert events(EventKind.CLONED_KEY) == []


def test_a_life_that_goes_on_alone_after_its_clone_ended_is_told_once():
    send(0, epoch=ONE)
    send(1, epoch=OTHER)
    for second in (300, 301, 599):
        send(second, epoch=ONE)

    assert [event.count for event in events(EventKind.CLONED_KEY)] == [1]


def test_an_event_of_a_device_that_belongs_to_another_host_is_the_claiming_hosts():
    send(0)
    happened = [DeviceEvent(GPU.uuid, DriverEvent.XID, 79, T0)]
    body = payload([T0 + 1000], {"power_draw_watts": [1]}, host="gpu-a02", events=happened)
    take(body, NOW + timedelta(seconds=1))

    (event,) = events(EventKind.XID)
    assert (event.host.name, event.device) == ("gpu-a02", None)


def many(n, uuid="GPU-{place}-{index}"):
    hosts = [make_host(f"new-{place:02}") for place in range(n)]
    return [
        Told(
            host, [replace(GPU, uuid=uuid.format(place=place, index=index), index=index) for index in range(4)], T0, T0
        )
        for place, host in enumerate(hosts)
    ]


def test_a_fleet_that_comes_in_one_go_costs_few_statements(django_assert_max_num_queries):
    named = many(20)

    with django_assert_max_num_queries(5):
        inventory.know(named, NOW)

    assert {device.host.name for device in Device.objects.all()} == {told.host.name for told in named}
    assert Device.objects.count() == 80


def test_of_two_hosts_that_name_one_new_device_the_first_has_it():
    (first, devices, *_), (other, *_) = many(2, "GPU-{index}")
    for host in (first, other):
        Host.objects.filter(pk=host.pk).update(heard_at=NOW)

    inventory.know([Told(first, devices[:1], T0, T0), Told(other, devices[:1], T0, T0)], NOW)

    assert Device.objects.get().host == first
    assert [event.host for event in events(EventKind.DEVICE_CLAIMED)] == [other]
