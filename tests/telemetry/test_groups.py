"""Statistics across the devices of groups: of all, of clusters, models and labels; who belongs to them, and when that changes."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fleet.models import Host
from telemetry import rollups
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.models import DirtyGroup, GroupMembers, GroupRollup, RollupGroup
from telemetry.series import trends
from telemetry.store.read import column
from tests.telemetry.batches import MIG, NODE, enrolled, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=30)
HOUR = 3_600_000

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400


def gpu(host, index=0, model="H100"):
    return DeviceInfo(f"GPU-{host}-{index}", DeviceKind.NVIDIA, index, model)


def report(host, watts, *, start=0, n=180, sequence=0, model="H100", others=()):
    """Store `n` seconds of one power, from `start` seconds on."""
    times = [T0 + 1000 * (start + i) for i in range(n)]
    device = gpu(host, model=model)
    body = payload(times, {"power_draw_watts": [watts] * n}, host=host, device=device, others=others, sequence=sequence)
    take(body, NOW)


def trend(**asked):
    """Return the trend of four hours' power in minutes: too long to be read from samples."""
    return trends.trend("power_draw_watts", T0, T0 + 4 * HOUR, 241, **asked)


def first(values):
    return {key: value[0] for key, value in values.items()}


def test_a_fleet_has_mean_sum_and_percentiles_across_its_devices():
    for n in range(11):
        enrolled(f"h{n:02}")
        report(f"h{n:02}", 10.0 * n * n)
    rollups.roll_up(60, NOW)

    found = trend()

    assert [first(values) for values in (found.mean, found.p10, found.p50, found.p90, found.total)] == [
        {"": 350}, {"": 10}, {"": 250}, {"": 810}, {"": 3850}
    ]  # fmt: skip
    assert np.isnan(found.mean[""][3:]).all()


@pytest.mark.parametrize(
    ("asked", "means"),
    [
        ({"group_by": "cluster"}, {"east": 150, "west": 300}),
        ({"group_by": "model"}, {"A100": 300, "H100": 150}),
        ({"group_by": "label:rack"}, {"": 200, "r1": 200}),
        ({"group_by": "host"}, {"a": 100, "b": 200, "c": 300}),
        ({"cluster": "east"}, {"": 150}),
        ({"cluster": "east", "group_by": "cluster"}, {"east": 150}),
        ({"cluster": "east", "group_by": "model"}, {"H100": 150}),
        ({"cluster": "nowhere"}, {}),
    ],
)
def test_groups_are_of_clusters_models_and_labels(asked, means):
    for name, cluster, labels, watts, model in (
        ("a", "east", {"rack": "r1"}, 100.0, "H100"), ("b", "east", {}, 200.0, "H100"),
        ("c", "west", {"rack": "r1"}, 300.0, "A100"),
    ):  # fmt: skip
        enrolled(name, cluster=cluster, labels=labels)
        report(name, watts, model=model)
    rollups.roll_up(60, NOW)

    assert {key: value for key, value in first(trend(**asked).mean).items() if value == value} == means  # noqa: PLR0124


def test_parts_of_devices_and_nodes_are_not_counted_beside_accelerators():
    enrolled("a")
    report("a", 100.0, others=[MIG, NODE])
    rollups.roll_up(60, NOW)

    assert first(trend().total) == {"": 100}
    assert set(RollupGroup.objects.values_list("devices", flat=True)) == {"accelerator", "account", "node"}


def test_a_host_that_comes_late_joins_the_sum():
    for name in ("a", "b"):
        enrolled(name)
    report("a", 100.0)
    rollups.roll_up(60, NOW)
    report("b", 50.0)
    rollups.roll_up(60, NOW)

    assert first(trend().total) == {"": 150}


def test_a_host_that_moves_takes_its_history_to_the_other_cluster():
    for name in ("a", "b"):
        enrolled(name, cluster="east")
        report(name, 100.0)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)
    Host.objects.filter(name="a").update(cluster="west")
    rollups.roll_up(60, NOW)

    assert first(trend(group_by="cluster").total) == {"east": 100, "west": 100}
    assert not DirtyGroup.objects.exists()


def test_a_host_that_is_removed_leaves_the_sum():
    for name in ("a", "b"):
        enrolled(name, cluster=name)
        report(name, 100.0)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)
    Host.objects.get(name="a").delete()
    rollups.roll_up(60, NOW)

    assert first(trend().total) == {"": 100}
    assert trend(group_by="cluster").total.keys() == {"b"}
    assert GroupMembers.objects.count() == 1


def test_nothing_is_made_again_where_nothing_changed():
    enrolled("a")
    report("a", 100.0)
    rollups.roll_up(60, NOW)

    assert rollups.roll_up(60, NOW) == 0


def test_joined_rows_of_groups_say_the_same():
    enrolled("a")
    report("a", 100.0, n=7200)
    rollups.roll_up(60, NOW)
    before = trend()
    rollups.join(60, NOW)

    assert trend().total[""].tolist() == pytest.approx(before.total[""].tolist(), nan_ok=True)
    assert GroupRollup.objects.filter(step_seconds=60).values("group").distinct().count() == 6
    assert GroupRollup.objects.filter(step_seconds=60).count() == 6


def test_the_cost_of_a_fleets_trend_does_not_grow_with_the_fleet(django_assert_num_queries):
    for n in range(8):
        enrolled(f"h{n}")
        report(f"h{n}", 100.0)
    rollups.roll_up(60, NOW)

    with django_assert_num_queries(3):
        trend()


def test_a_minute_of_a_group_falls_where_a_device_was_lost(monkeypatch):
    for name, seconds in (("a", 180), ("b", 120)):
        enrolled(name)
        report(name, 100.0, n=seconds)
    rollups.roll_up(60, NOW)

    for seconds_later, total in ((120 + 180, 100), (120 + 179, None)):
        monkeypatch.setattr(trends, "_now_ms", lambda later=seconds_later: T0 + 1000 * later)
        assert column(trend().total[""])[:3] == [200, 200, total]


def test_the_hosts_that_count_for_reading_samples_are_those_of_counted_devices():
    enrolled("a")
    report("a", 100.0)
    for n in range(8):
        enrolled(f"empty-{n}")

    assert trends.trend("power_draw_watts", T0, T0 + HOUR, 241).step_seconds == 15


@pytest.mark.parametrize("group_by", ["", "cluster", "host", "label:rack"])
def test_a_fleet_without_devices_has_no_groups(group_by):
    assert not trends.trend("power_draw_watts", T0, T0 + HOUR, 241, group_by=group_by).mean
    assert not trends.trend("power_draw_watts", T0, T0 + 40 * HOUR, 241, cluster="nowhere", group_by=group_by).mean


def test_the_newest_quarter_is_read_from_minutes():
    enrolled("a")
    report("a", 100.0, n=1800)
    soon = datetime.fromtimestamp(T0 / 1000 + 1740, UTC)
    rollups.roll_up(60, soon)

    found = trends.trend("power_draw_watts", T0 - 400 * HOUR, T0 + HOUR, 1700)

    assert found.step_seconds == 900
    assert found.total[""][-4:-2].tolist() == [100, 100]
