"""Devices that move between hosts, whatever comes in whatever order: beside it an account in plain Python."""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet.models import Device, DeviceStay, Host
from telemetry import rollups
from telemetry.accounts import accounts, windows
from telemetry.accounts.account import Scope
from telemetry.accounts.fleet import fleet_accounts
from telemetry.catalog import BY_NAME
from telemetry.maintenance import retention
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.models import DirtyRollup, SetAside, StoredBatch
from telemetry.prices.energy_rates import Rates
from telemetry.series import trends
from telemetry.series.export import Resolution, pieces
from telemetry.store import compact, host_hour, samples, verify, verify_groups
from tests.telemetry.batches import enrolled, payload, take

T0 = 1_700_000_000_000 // 3_600_000 * 3_600_000
TICK, MINUTE, PER_BATCH, AWAY = 10_000, 60_000, 18, 35 * 60_000
METRIC = "power_draw_watts"
CLUSTERS = {"a": "east", "b": "west", "c": "east"}
EPOCHS = {name: f"{place:032x}" for place, name in enumerate(CLUSTERS, 1)}
FREE = Rates(None, None, None)


def at(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


class Machine:
    """Where each device truly is when, and what it reads then; batches are (host, device, times, watts, may come late).

    Who had a device last, and first, is heard of in time; and of a stay between two of another host its beginning.
    """

    def __init__(self, journeys):
        self.batches, self.truth = [], defaultdict(list)
        for number, journey in enumerate(journeys):
            uuid, now = f"GPU-{number}", T0 + 60_000 * (50 + number)
            is_simple = len({host for host, _ in journey}) == len(journey)
            for stay, (host, n_batches) in enumerate(journey):
                for place in range(n_batches):
                    times = [now + TICK * n for n in range(PER_BATCH)]
                    watts = [100.0 + 50 * number + (time_ms // TICK) % 13 for time_ms in times]
                    is_last = stay + 1 == len(journey) and place + 1 == n_batches
                    may_be_late = not is_last and (place > 0 or (is_simple and stay > 0))
                    self.batches.append((host, uuid, times, watts, may_be_late))
                    self.truth[uuid, host] += zip(times, watts, strict=True)
                    now = times[-1] + TICK
                now += AWAY
        self.batches.sort(key=lambda batch: batch[2][-1])
        self.end_ms = max(batch[2][-1] for batch in self.batches) + TICK

    def joules(self, start_ms, end_ms):
        """Return by (device, host) the trapezoids between samples that follow each other, both inside."""
        found = {}
        for key, told in self.truth.items():
            inside = sorted(each for each in told if start_ms <= each[0] <= end_ms)
            near = [(one, other) for one, other in pairwise(inside) if other[0] - one[0] == TICK]
            found[key] = sum((one[1] + other[1]) / 2 * TICK / 1000 for one, other in near)
        return found


def by(joules, key):
    found = defaultdict(float)
    for (uuid, host), each in joules.items():
        found[key(uuid, host)] += each
    return {name: each for name, each in found.items() if each}


JOURNEYS = st.lists(
    st.lists(st.tuples(st.sampled_from(sorted(CLUSTERS)), st.integers(1, 4)), min_size=2, max_size=3).filter(
        lambda journey: all(one[0] != other[0] for one, other in pairwise(journey))
    ),
    min_size=1, max_size=2,
)  # fmt: skip


def deliver(machine, draw):
    """Have all batches come: some after all others, in any order, with upkeep of every kind in between."""
    sequences, waiting = defaultdict(int), []
    for host, uuid, times, watts, may_be_late in machine.batches:
        sequences[host] += 1
        body = payload(
            times, {METRIC: watts}, host=host, device=DeviceInfo(uuid, DeviceKind.NVIDIA, 0, "H100"), sample_seconds=10.0,
            sequence=sequences[host], epoch=EPOCHS[host],
        )  # fmt: skip
        is_late = may_be_late and draw(st.integers(0, 2)) == 0
        waiting.append((machine.end_ms + 1000 * draw(st.integers(1, 999)) if is_late else times[-1], body))
    for due, body in sorted(waiting):
        now = at(due + 5_000)
        take(body, now)
        upkeep = draw(st.sampled_from(["", "", "", "roll up", "compact", "join"]))
        if upkeep == "roll up":
            rollups.roll_up(60, now)
        elif upkeep == "compact":
            compact.compact(now, 60)
        elif upkeep == "join":
            rollups.join(60, now)


def settle(now):
    compact.compact(now, 60)
    rollups.roll_up(120, now)
    rollups.join(60, now)


def accounts_of(machine, now, group_by):
    asked = T0, machine.end_ms, now
    how = {"scope": Scope.DEVICE, "group_by": group_by, "rates": FREE, "zone": ZoneInfo("UTC")}
    devices = list(Device.objects.select_related("host"))
    for found in (accounts.accounts(devices, *asked, **how), fleet_accounts(*asked, **how)):
        yield {group.key: group.joules for group in found.groups if group.joules}, found.total.joules


def check_energy(machine, now):
    joules = machine.joules(T0, machine.end_ms)
    keys = {"host": lambda _, host: host, "device": lambda uuid, _: uuid, "cluster": lambda _, host: CLUSTERS[host]}
    for group_by, key in keys.items():
        for groups, total in accounts_of(machine, now, group_by):
            assert groups == pytest.approx(by(joules, key), abs=0.5), group_by
            assert total == pytest.approx(sum(joules.values()), abs=0.5)


def check_series(machine):
    for device in Device.objects.select_related("host"):
        told = sorted(each for (uuid, _), of in machine.truth.items() if uuid == device.uuid for each in of)
        found = samples.of_device(device, METRIC, T0, machine.end_ms)
        assert list(zip(found.times_ms.tolist(), found.values.tolist(), strict=True)) == told
        rows, times = defaultdict(int), []
        for piece in pieces([device], [BY_NAME[METRIC]], T0, machine.end_ms, Resolution.MINUTE):
            rows[piece.host] += int(piece.columns[f"{METRIC}_count"].sum())
            times += piece.times_ms.tolist()
        assert times == sorted(times)
        assert rows == {host: len(of) for (uuid, host), of in machine.truth.items() if uuid == device.uuid}


def across(machine, group, span, step):
    """Return by group and bucket how many devices there were, and the mean of what each read on average."""
    read = defaultdict(list)
    for (uuid, host), told in machine.truth.items():
        for time_ms, watts in told:
            if span[0] <= time_ms < span[1] and (name := group(host)) is not None:
                read[name, time_ms // step * step, uuid].append(watts)
    means = defaultdict(list)
    for (name, bucket, _), watts in read.items():
        means[name, bucket].append(sum(watts) / len(watts))
    return {key: (len(each), pytest.approx(sum(each) / len(each), abs=0.01)) for key, each in means.items()}


def check_trends(machine, draw):
    """In each group stands what was there at the time, from the samples as from the devices' and the groups' rollups."""
    first = draw(st.sampled_from(sorted(batch[2][0] for batch in machine.batches))) // MINUTE * MINUTE
    present = set(Device.objects.values_list("host__cluster", flat=True))
    asked = [("host", "", lambda host: host), ("cluster", "", CLUSTERS.get)]
    asked += [("model", name, lambda host, own=name: "H100" if CLUSTERS[host] == own else None) for name in present]
    for step, span in (
        (30_000, (first, first + 40 * MINUTE)),
        (MINUTE, (T0, machine.end_ms // MINUTE * MINUTE + MINUTE)),
    ):
        for group_by, cluster, group in asked:
            points = (span[1] - span[0]) // step + 1
            trend = trends.trend(METRIC, *span, points, cluster=cluster, group_by=group_by)
            found = {
                (name, time_ms): (n, mean)
                for name, of_group in trend.n.items()
                for time_ms, n, mean in zip(trend.times_ms, of_group, trend.mean[name], strict=True)
                if n == n  # noqa: PLR0124  NaN is not itself
            }
            expected = across(machine, group, span, step)
            assert found == expected, (group_by, cluster, step)
            assert not expected or trend.step_seconds * 1000 == step


def check_windows(machine, draw):
    ticks = sorted({time_ms for _, _, times, *_ in machine.batches for time_ms in times})
    start_ms, end_ms = sorted((draw(st.sampled_from(ticks[:-1])), draw(st.sampled_from(ticks[1:]))))
    joules = by(machine.joules(start_ms, end_ms), lambda uuid, _: uuid)
    for device in Device.objects.all() if start_ms < end_ms else ():
        found = windows.of_window([device], start_ms, end_ms).joules or 0
        assert found == pytest.approx(joules.get(device.uuid, 0), abs=0.5)


def check_store(now):
    for host in Host.objects.all():
        assert verify.host(host, T0, 2**60, now).differences == []
    assert verify_groups.check(T0, 2**60, now).differences == []


@hypothesis_settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to make a failure smaller takes longer than to read it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(JOURNEYS, st.data())
def test_whatever_comes_when_each_host_has_what_a_device_did_there(each_database, settings, journeys, data):
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400
    machine = Machine(journeys)
    with transaction.atomic():
        for name, cluster in CLUSTERS.items():
            enrolled(name, cluster=cluster)
        deliver(machine, data.draw)
        now = at(machine.end_ms) + timedelta(hours=3)
        settle(now)
        assert not DirtyRollup.objects.exists()
        assert not SetAside.objects.exists()
        check_energy(machine, now)
        check_series(machine)
        check_trends(machine, data.draw)
        check_windows(machine, data.draw)
        check_store(now)
        settings.STEPWATT_RETENTION_RAW = 3600
        retention.retire(now, time.monotonic() + 60)
        assert not StoredBatch.objects.exists()
        check_energy(machine, now)
        transaction.set_rollback(True)


GPU = DeviceInfo("GPU-0", DeviceKind.NVIDIA, 0, "H100")
NODE = {name: DeviceInfo(f"NODE-{name}", DeviceKind.NODE, 0, "X") for name in CLUSTERS}


def tell(host, minute, sequence, *, device=GPU, watts=100.0, now_minute=None):
    """Have a minute of 10 s readings come, as soon as it is over or later."""
    times = [T0 + MINUTE * minute + TICK * n for n in range(6)]
    body = payload(
        times,
        {METRIC: [watts] * 6},
        host=host,
        device=device,
        sample_seconds=10.0,
        sequence=sequence,
        epoch=EPOCHS[host],
    )
    now = at(T0 + MINUTE * ((minute if now_minute is None else now_minute) + 1))
    take(body, now)
    return now


def joules_of(host, now):
    how = {"scope": Scope.DEVICE, "group_by": "host", "rates": FREE, "zone": ZoneInfo("UTC")}
    found = fleet_accounts(T0, T0 + 4 * 60 * MINUTE, now, **how)
    return next((group.joules for group in found.groups if group.key == host), None)


@pytest.fixture
def hosts(each_database, settings):
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400
    for name, cluster in CLUSTERS.items():
        enrolled(name, cluster=cluster)


@pytest.mark.usefixtures("hosts")
def test_what_a_host_said_of_a_device_before_it_was_let_go_counts_from_when_the_other_was_done():
    tell("a", 0, 0)
    for minute in range(1, 19):
        tell("a", minute, minute, device=NODE["a"])
        rollups.roll_up(60, tell("b", minute, minute))
    device = Device.objects.get(uuid="GPU-0")
    assert device.host.name == "b"
    assert samples.of_device(device, METRIC, T0, T0 + MINUTE).times_ms.size == 6

    now = at(T0 + 4 * 60 * MINUTE)
    settle(now)

    assert list(DeviceStay.objects.order_by("from_ms").values_list("host__name", "from_ms")) == [
        ("a", 0), ("b", T0 + MINUTE),
    ]  # fmt: skip
    assert (joules_of("a", now), joules_of("b", now)) == (5_000, pytest.approx(18 * 6_000 - 1_000))
    assert not SetAside.objects.exists()
    check_store(now)


@pytest.mark.usefixtures("hosts")
def test_what_a_host_says_of_a_device_that_has_left_it_is_kept_apart():
    tell("a", 0, 0)
    tell("b", 20, 0)
    for minute in (21, 22):
        tell("b", minute, minute)
        tell("a", minute, minute, watts=900.0)
    now = at(T0 + 4 * 60 * MINUTE)
    settle(now)

    assert {row.host.name for row in SetAside.objects.all()} == {"a"}
    assert (joules_of("a", now), joules_of("b", now)) == (5_000, 17_000)
    check_store(now)


@pytest.mark.usefixtures("hosts")
def test_the_hour_of_a_move_is_whole_where_its_compaction_is_killed_and_an_old_minute_is_made_again(monkeypatch):
    tell("a", 0, 0)
    tell("b", 20, 0)
    now = at(T0 + 2 * 60 * MINUTE)
    rollups.roll_up(60, now)
    with monkeypatch.context() as killed:
        killed.setattr(host_hour, "_remove", Mock(side_effect=KeyboardInterrupt))
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                compact.compact(now, 60)
    device = Device.objects.get(uuid="GPU-0")
    told = [T0 + MINUTE * minute + TICK * n for minute in (0, 20) for n in range(6)]
    assert samples.of_device(device, METRIC, T0, 2**60).times_ms.tolist() == told

    compact.compact(now, 60)
    tell("a", 2, 1, now_minute=119)
    settle(now)

    assert not StoredBatch.objects.exists()
    assert (joules_of("a", now), joules_of("b", now)) == (10_000, 5_000)
    check_store(now)
    Host.objects.get(name="a").delete()
    assert samples.of_device(device, METRIC, T0 + 20 * MINUTE, 2**60).times_ms.tolist() == told[6:]
    assert verify.host(Host.objects.get(name="b"), T0, 2**60, now).differences == []


@pytest.mark.usefixtures("hosts")
def test_a_stay_that_is_heard_of_after_the_next_one_began_is_one():
    tell("a", 0, 0)
    tell("c", 60, 0)
    for minute in (31, 30):
        tell("b", minute, minute, now_minute=61)
    now = at(T0 + 4 * 60 * MINUTE)
    settle(now)

    assert Device.objects.get(uuid="GPU-0").host.name == "c"
    assert [joules_of(name, now) for name in CLUSTERS] == [5_000, 11_000, 5_000]
    check_store(now)


@pytest.mark.usefixtures("hosts")
def test_a_stay_that_was_heard_of_late_ends_with_what_was_said_there_of_the_device_and_not_with_the_host():
    tell("c", 0, 0)
    tell("a", 59, 1, device=NODE["a"])
    tell("b", 60, 1)
    tell("a", 30, 0, now_minute=61)
    tell("b", 40, 0, now_minute=62)
    now = at(T0 + 4 * 60 * MINUTE)
    settle(now)

    assert not SetAside.objects.exists()
    assert [joules_of(name, now) for name in CLUSTERS] == [5_000, 10_000, 5_000]
    check_store(now)
