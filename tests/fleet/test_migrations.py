"""What the release before kept of hosts' keys is kept by the migrations, on both databases, and comes back with the way back."""

from datetime import UTC, datetime

import pytest

from tests.telemetry.test_migrations import migrate, model_of

BEFORE, AFTER = ("fleet", "0005_device_and_clock_events"), ("fleet", "0006_earlier_keys")
AT, KEY = datetime(2026, 11, 23, 12, tzinfo=UTC), bytes(range(32))


@pytest.fixture
def hosts(empty_database):
    """Two hosts of the release before: one whose key was rotated, and one that joined and never did."""
    migrate(*BEFORE)
    hosts = model_of(*BEFORE, "Host").objects
    hosts.create(name="rotated", public_key=b"n" * 32, previous_key=KEY, rotated_at=AT)
    hosts.create(name="joined", public_key=b"j" * 32)


def test_the_key_before_a_rotation_becomes_the_first_of_a_list(hosts):
    migrate(*AFTER)

    rows = model_of(*AFTER, "Host").objects.order_by("name")
    kept = {"key": KEY.hex(), "replaced_ms": int(AT.timestamp() * 1000)}
    assert list(rows.values_list("name", "earlier_keys")) == [("joined", []), ("rotated", [kept])]
    assert [bytes(row.public_key) for row in rows] == [b"j" * 32, b"n" * 32]


def test_the_way_back_has_the_key_before_again(hosts):
    migrate(*AFTER)
    migrate(*BEFORE)

    rows = model_of(*BEFORE, "Host").objects.order_by("name")
    found = [(row.name, bytes(row.previous_key), row.rotated_at) for row in rows]
    assert found == [("joined", b"", None), ("rotated", KEY, AT)]


def test_an_index_that_is_not_known_is_0_again_for_the_release_before(empty_database):
    known = ("fleet", "0011_devices_without_index")
    migrate(*known)
    host = model_of(*known, "Host").objects.create(name="old")
    model_of(*known, "Device").objects.create(host_id=host.pk, uuid="X-1", kind="nvidia", index=None)
    migrate("fleet", "0010_events_of_several_hosts")

    before = model_of("fleet", "0010_events_of_several_hosts", "Device").objects
    assert list(before.values_list("uuid", "index")) == [("X-1", 0)]


def test_events_of_moves_become_stays_and_the_way_back_leaves_the_devices(empty_database):
    before, after = ("fleet", "0011_devices_without_index"), ("fleet", "0012_stays_of_devices")
    migrate(*before)
    old, new = (model_of(*before, "Host").objects.create(name=name) for name in ("old", "new"))
    moved, stayed = (
        model_of(*before, "Device").objects.create(host_id=new.pk, uuid=uuid, kind="nvidia", index=0) for uuid in "MS"
    )
    for device_id, name in ((moved.pk, "old"), (stayed.pk, "gone")):
        model_of(*before, "Event").objects.create(
            kind="device_moved", severity="warning", host_id=new.pk, device_id=device_id, text="moved", first_at=AT,
            last_at=AT, detail={"other_host": name},
        )  # fmt: skip
    migrate(*after)

    at_ms = round(AT.timestamp() * 1000)
    stays = model_of(*after, "DeviceStay").objects.order_by("device", "from_ms")
    assert list(stays.values_list("device_id", "host_id", "from_ms")) == [
        (moved.pk, old.pk, 0), (moved.pk, new.pk, at_ms), (stayed.pk, new.pk, at_ms),
    ]  # fmt: skip
    migrate(*before)
    assert model_of(*before, "Device").objects.count() == 2


def test_the_clusters_that_moved_devices_came_to_are_made_again(empty_database):
    at = {"step_seconds": 60, "start_ms": 0}
    migrate("fleet", "0012_stays_of_devices")
    migrate("telemetry", "0016_energy_price")
    models = {name: model_of("telemetry", "0016_energy_price", name).objects for name in ("RollupGroup", "GroupRollup")}
    host = model_of("fleet", "0012_stays_of_devices", "Host").objects.create(name="new")
    device = model_of("fleet", "0012_stays_of_devices", "Device").objects.create(
        host_id=host.pk, uuid="M", kind="nvidia"
    )
    model_of("fleet", "0012_stays_of_devices", "DeviceStay").objects.create(
        device_id=device.pk, host_id=host.pk, from_ms=9
    )
    groups = [models["RollupGroup"].create(kind=kind, value="west", devices="account") for kind in ("cluster", "fleet")]
    for group in groups:
        models["GroupRollup"].create(group_id=group.pk, n_buckets=2, body=b"x", **at)
    members = {str(group.pk): [device.pk] for group in groups}
    model_of("telemetry", "0016_energy_price", "GroupMembers").objects.create(
        host_id=host.pk, digest="", devices=members
    )
    migrate("telemetry", "0018_groups_of_moved_devices")

    marked = model_of("telemetry", "0018_groups_of_moved_devices", "DirtyGroup").objects.order_by("start_ms")
    assert list(marked.values_list("group_id", "start_ms")) == [(groups[0].pk, 0), (groups[0].pk, 60_000)]
