"""Statistics over buckets, from batches to hours: the same in whatever order batches come and whenever buckets are made."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet.models import Device, Host, Origin
from fleet.turns import TurnFailed
from telemetry import catalog, rollups
from telemetry.models import (
    DirtyRollup,
    GroupRollup,
    MaintenanceRun,
    Rollup,
    RollupGroup,
)
from telemetry.rollups import minutes
from telemetry.store import compact, inputs, partitions, read, recorded, resolution, rolled, samples, shortened
from telemetry.store.statistics import ENERGY, Field
from tests.telemetry.batches import GPU, NODE, batch, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=30)
MINUTE = 60_000

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400


def rows(step=60, metric="power_draw_watts", until_ms=2**60, uuid=GPU.uuid):
    """Return {bucket's start in ms after T0: {field: value}} of a GPU's series."""
    host = Host.objects.get()
    table = rolled.of_hosts([host.pk], step, 0, until_ms).get(host.pk)
    if table is None:
        return {}
    number = catalog.BY_NAME[metric].number if metric else ENERGY
    owner = Device.objects.get(uuid=uuid).pk
    chosen = (table.keys.numbers == number) & (table.keys.owners == owner)
    names = [
        (Field(field).name, argument)
        for field, argument in zip(
            table.keys.fields[chosen].tolist(), table.keys.arguments[chosen].tolist(), strict=True
        )
    ]
    return {
        at - T0: {
            name if not argument else (name, argument): value
            for (name, argument), value in zip(names, column, strict=True)
        }
        for at, column in zip(table.starts_ms.tolist(), table.values[chosen].T.tolist(), strict=True)
    }


def seconds(n, start=0):
    return [T0 + 1000 * (start + i) for i in range(n)]


def test_a_minute_has_the_statistics_of_its_samples():
    take(payload(seconds(60), {"power_draw_watts": [100.0 + n for n in range(60)]}), NOW)
    rollups.roll_up(30, NOW)

    assert rows()[0] == {"COUNT": 60, "SUM": 7_770_000, "MINIMUM": 100_000, "MAXIMUM": 159_000, "LAST": 159_000}


def test_a_minute_that_is_not_over_is_not_made_yet():
    take(payload(seconds(30), {"power_draw_watts": [100.0] * 30}), NOW)
    rollups.roll_up(30, datetime.fromtimestamp(T0 / 1000 + 59, UTC))

    assert rows() == {}
    assert DirtyRollup.objects.exists()


def test_a_counter_grows_by_its_differences_and_a_reset_adds_nothing():
    take(payload(seconds(4, 58), {"energy_joules_total": [1000, 1300, 50, 350]}), NOW)
    rollups.roll_up(30, NOW)

    found = rows(metric="energy_joules_total")
    assert [(found[at]["INCREASE"], found[at]["GREW"]) for at in (0, MINUTE)] == [(300_000, 1), (300_000, 2)]


def test_a_state_is_told_in_milliseconds_at_each_value():
    take(payload(seconds(60), {"clock_event_reasons": [0] * 20 + [4] * 40}), NOW)
    rollups.roll_up(30, NOW)

    found = rows(metric="clock_event_reasons")[0]
    assert (found["MILLISECONDS"], found["MILLISECONDS", 4]) == (20_000, 40_000)


@pytest.mark.parametrize("told", [{"epoch": "0" * 31 + "2"}, {"segment": 1}, {}])
def test_a_state_ends_with_what_an_agent_says_first_after_its_start(told):
    take(payload(seconds(90), {"clock_event_reasons": [4] * 90}), NOW)
    take(payload(seconds(60, 90), {"clock_event_reasons": [0] * 60}, sequence=90, **told), NOW)
    rollups.roll_up(30, NOW)

    found = rows(metric="clock_event_reasons")[MINUTE]
    assert (found["MILLISECONDS"], found["MILLISECONDS", 4]) == (30_000, 30_000)
    gpu = Device.objects.get(uuid=GPU.uuid)
    raw = read.bucketed([gpu], ["clock_event_reasons"], T0 + MINUTE, T0 + 2 * MINUTE, 2).of(
        GPU.uuid, "clock_event_reasons"
    )
    assert {state: held.tolist() for state, held in raw.seconds.items()} == {0: [30.0], 4: [30.0]}


def test_a_minute_knows_its_joules_and_how_much_of_it_they_cover():
    take(payload(seconds(121), {"power_draw_watts": [300.0] * 121}), NOW)
    rollups.roll_up(30, NOW)

    found = rows(metric=None)
    assert found[MINUTE] == {
        "ESTIMATED_MILLIJOULES": 18_000_000, "COVERED_MILLISECONDS": 60_000
    }  # fmt: skip


def test_quarters_and_hours_are_made_of_what_lies_below():
    watts = [float(n % 700) for n in range(7200)]
    take(payload(seconds(7200), {"power_draw_watts": watts, "energy_joules_total": list(range(7200))}), NOW)
    rollups.roll_up(60, NOW)

    hour = rows(3600)[3_600_000]
    assert hour["SUM"] == 1000 * sum(watts[3600:])
    assert (hour["COUNT"], hour["LAST"]) == (3600, 1000 * watts[-1])
    assert sorted(rows(900)) == [900_000 * n for n in range(8)]
    assert rows(3600, "energy_joules_total")[3_600_000]["INCREASE"] == 3_600_000


@pytest.mark.parametrize(("shortened_hours_ago", "count"), [(None, 60), (30, 60), (20, 30)])
def test_under_a_disk_limit_a_late_batch_is_welcome_where_samples_are_whole(settings, shortened_hours_ago, count):
    settings.STEPWATT_DISK_LIMIT, settings.STEPWATT_RETENTION_RAW = 10**12, 7 * 86_400
    now = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=29)
    take(payload(seconds(30), {"power_draw_watts": [100.0] * 30}), now)
    rollups.roll_up(60, now)
    if shortened_hours_ago is not None:
        shortened.note(partitions.CHUNKS, round((now - timedelta(hours=shortened_hours_ago)).timestamp() * 1000))

    take(payload(seconds(30, 30), {"power_draw_watts": [200.0] * 30}, sequence=1), now)
    rollups.roll_up(60, now)

    assert rows()[0]["COUNT"] == count


def test_a_late_batch_has_all_levels_made_again():
    take(payload(seconds(30), {"power_draw_watts": [100.0] * 30}, sequence=1), NOW)
    rollups.roll_up(30, NOW)
    take(payload(seconds(30, 30), {"power_draw_watts": [200.0] * 30}, sequence=0), NOW)
    rollups.roll_up(30, NOW)

    assert [rows(step)[0]["SUM"] for step in (60, 900, 3600)] == [9_000_000] * 3


def test_joined_rows_say_the_same_and_are_few():
    take(payload(seconds(7200), {"power_draw_watts": [float(n % 97) for n in range(7200)]}), NOW)
    rollups.roll_up(60, NOW)
    before = {step: rows(step) for step in (60, 900, 3600)}
    assert rollups.join(60, NOW) > 120
    assert {step: rows(step) for step in (60, 900, 3600)} == before
    assert Rollup.objects.filter(step_seconds=60).count() == 2
    assert rollups.join(60, NOW) == 0


def test_groups_whose_devices_tell_no_power_are_joined_like_all():
    """Of their energy nothing is known: those rows are empty."""
    take(payload(seconds(7200), {"gpu_utilization_ratio": [n % 97 / 100 for n in range(7200)]}), NOW)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)

    assert GroupRollup.objects.filter(step_seconds=60).count() == RollupGroup.objects.count()
    assert rollups.join(60, NOW) == 0


def test_a_bucket_that_is_made_again_after_the_joining_holds():
    take(payload(seconds(120), {"power_draw_watts": [100.0] * 120}, sequence=1), NOW)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)
    take(payload(seconds(60, 120), {"power_draw_watts": [50.0] * 60}, sequence=0), NOW)
    take(payload([T0 + 500], {"power_draw_watts": [900.0]}, sequence=2), NOW)
    rollups.roll_up(60, NOW)
    assert [(at, row["MAXIMUM"]) for at, row in rows().items()] == [
        (0, 900_000),
        (MINUTE, 100_000),
        (2 * MINUTE, 50_000),
    ]
    rollups.join(60, NOW)
    assert [row["MAXIMUM"] for row in rows().values()] == [900_000, 100_000, 50_000]


def test_a_bucket_that_is_made_again_after_the_joining_holds_where_it_is_read_alone():
    """As the groups' minutes are made of it."""
    take(payload(seconds(120), {"power_draw_watts": [100.0] * 120}), NOW)
    rollups.roll_up(60, NOW)
    rollups.join(60, NOW)
    take(payload([T0 + 500], {"power_draw_watts": [900.0]}, sequence=1), NOW)
    rollups.roll_up(60, NOW)

    assert rows(until_ms=T0 + MINUTE)[0]["MAXIMUM"] == 900_000


def test_a_run_is_noted_for_the_settings_page():
    take(payload(seconds(60), {"power_draw_watts": [100.0] * 60}), NOW)
    rollups.roll_up(60, NOW)

    assert MaintenanceRun.objects.get(name="rollups").done > 0


@st.composite
def recordings(draw):
    """Return minutes of readings in batches of any split: with a gap, a reset, an agent's new start at another interval."""
    gap = draw(st.sampled_from([0, 4, 40]))
    restart, reset = draw(st.sampled_from([130, 180, 361])), draw(st.sampled_from([50, 119, 240]))
    before, after, is_new_clock = (
        draw(st.sampled_from([1, 1, 10])),
        draw(st.sampled_from([1, 1, 5, 10])),
        draw(st.booleans()),
    )
    ticks = [n for n in range(draw(st.integers(2, 360))) if not 100 <= n < 100 + gap]
    ticks = [n for n in ticks if n % (before if n < restart else after) == 0]
    watts, states = draw(st.integers(1, 700)), draw(st.sampled_from([(0,), (0, 0, 4), (4, 8)]))
    cuts = {*draw(st.sets(st.integers(1, len(ticks)), max_size=30)), len(ticks), sum(n < restart for n in ticks)} - {0}
    ends = sorted(cuts)
    starts = [0, *ends[:-1]]
    bodies = []
    for begin, end in zip(starts, ends, strict=True):
        part = ticks[begin:end]
        columns = {
            "power_draw_watts": [(watts * n) % 701 for n in part],
            "energy_joules_total": [500.0 * (n if n < reset else n - reset) for n in part],
            "clock_event_reasons": [states[n % len(states)] for n in part],
        }
        times = [T0 + 1000 * tick + 7 for tick in part]
        is_after = part[0] >= restart
        told = {"segment": int(is_after and is_new_clock), "sample_seconds": after if is_after else before}
        bodies.append(payload(times, columns, sequence=len(bodies), **told))
    return bodies


def all_statistics():
    """Return what stands of the host and of all groups, by resolution."""
    metrics = ("power_draw_watts", "energy_joules_total", "clock_event_reasons", None)
    found = [rows(step, metric) for step in (60, 900, 3600) for metric in metrics]
    for group in RollupGroup.objects.order_by("kind", "value"):
        for step in (60, 900, 3600):
            table = rolled.of_groups([group.pk], step, 0, 2**60).get(group.pk)
            found.append(None if table is None else (str(group), table.starts_ms.tolist(), table.values.tolist()))
    return found


UPKEEP = {
    "roll up": rollups.roll_up,
    "join": rollups.join,
    "compact": lambda seconds, now: compact.compact(now, seconds),
}


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(recordings(), st.data())
def test_any_order_split_repetition_and_interleaving_gives_the_same_rollups(bodies, data):
    with transaction.atomic():
        for body in bodies:
            take(body, NOW)
        rollups.roll_up(60, NOW)
        expected = all_statistics()
        transaction.set_rollback(True)
    again = data.draw(st.lists(st.sampled_from(bodies), max_size=5))

    with transaction.atomic():
        for body in data.draw(st.permutations(bodies + again)):
            take(body, NOW)
            if upkeep := data.draw(st.sampled_from(["", "", "", *UPKEEP])):
                UPKEEP[upkeep](60, NOW)
        rollups.roll_up(60, NOW)
        found = all_statistics()
        transaction.set_rollback(True)

    assert found == expected
    assert any(expected)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(recordings())
def test_series_from_samples_say_what_the_rollups_do(bodies):
    metrics, span = ["power_draw_watts", "energy_joules_total", "clock_event_reasons"], (T0, T0 + 8 * MINUTE)
    with transaction.atomic():
        for body in bodies:
            take(body, NOW)
        rollups.roll_up(60, NOW)
        devices = [Device.objects.select_related("host").get(uuid=GPU.uuid)]
        of_rollups = read.bucketed(devices, metrics, *span, 9).series[GPU.uuid]
        samples_ = samples.raw_with_reach(devices, metrics, *span)
        grid = resolution.grid(*span, MINUTE)
        of_samples = read._from_samples(samples_, *span, grid).series[GPU.uuid]
        transaction.set_rollback(True)

    for metric in metrics:
        one, other = of_samples[metric], of_rollups[metric]
        for field in ("mean", "minimum", "maximum", "increase", "grew", "grew_seconds"):
            np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-9)
        assert one.seconds.keys() == other.seconds.keys()
        for value, held in one.seconds.items():
            np.testing.assert_allclose(held, other.seconds[value])
            assert np.nanmax(held) <= 60


def test_a_batch_that_comes_while_its_minute_is_made_has_it_made_again(monkeypatch):
    take(payload(seconds(30), {"power_draw_watts": [100.0] * 30}), NOW)
    real = inputs.statistics_of

    def meanwhile(*args):
        monkeypatch.setattr(inputs, "statistics_of", real)
        found = real(*args)
        take(payload(seconds(30, 30), {"power_draw_watts": [200.0] * 30}, sequence=1), NOW)
        return found

    monkeypatch.setattr(inputs, "statistics_of", meanwhile)
    assert rollups.roll_up(60, NOW) == 0
    assert rows() == {}
    rollups.roll_up(60, NOW)

    assert rows()[0]["COUNT"] == 60
    assert not DirtyRollup.objects.exists()


def test_whoever_is_stopped_while_writing_leaves_the_marks(monkeypatch):
    take(payload(seconds(60), {"power_draw_watts": [100.0] * 60}), NOW)
    monkeypatch.setattr(minutes, "cascade", lambda *_: 1 / 0)
    with pytest.raises(TurnFailed, match="ZeroDivisionError"):
        rollups.roll_up(60, NOW)
    monkeypatch.undo()

    assert rows() == {}
    rollups.roll_up(60, NOW)
    assert rows()[0]["COUNT"] == 60


def test_an_imported_window_that_grows_is_made_again():
    host = Host.objects.create(name="old", origin=Origin.IMPORTED)
    Device.objects.create(host=host, uuid=GPU.uuid, kind="nvidia", index=0)
    for n in (30, 60):
        recorded.keep(host, batch(seconds(n), {"power_draw_watts": [100.0] * n}, host="old", sequence=T0 // 600_000))
        rollups.roll_up(60, NOW)

    assert rows()[0]["COUNT"] == 60


def test_a_slowly_recorded_device_keeps_its_energy_beside_a_fast_one():
    host = Host.objects.create(name="old", origin=Origin.IMPORTED)
    for device in (GPU, NODE):
        Device.objects.create(host=host, uuid=device.uuid, kind=device.kind, index=0)
    for n in range(3):  # a reading each 40 minutes: most minutes have none near
        body = batch([T0 + 2_400_000 * n], {"power_draw_watts": [600.0]}, host="old", device=GPU, sample_seconds=2400)
        recorded.keep(host, body)
    fast = {"host": "old", "device": NODE, "epoch": "2" * 32}
    for first in range(0, 3600, 600):
        recorded.keep(host, batch(seconds(600, first), {"power_draw_watts": [900.0] * 600}, **fast))
    rollups.roll_up(60, NOW)
    recorded.keep(host, batch(seconds(30, 900), {"power_draw_watts": [910.0] * 30}, **fast))
    rollups.roll_up(60, NOW)

    assert rows(3600, metric=None)[0] == {"ESTIMATED_MILLIJOULES": 600 * 3_600_000, "COVERED_MILLISECONDS": 3_600_000}


def test_a_gap_stays_one_beside_a_device_that_is_read_more_slowly():
    host = Host.objects.create(name="old", origin=Origin.IMPORTED)
    for device in (GPU, NODE):
        Device.objects.create(host=host, uuid=device.uuid, kind=device.kind, index=0)
    for part in (seconds(20), seconds(20, 40)):
        recorded.keep(host, batch(part, {"power_draw_watts": [100.0] * 20}, host="old"))
    slow = {"host": "old", "device": NODE, "epoch": "2" * 32, "sample_seconds": 30}
    recorded.keep(host, batch([T0, T0 + 30_000, T0 + 60_000], {"power_draw_watts": [900.0] * 3}, **slow))
    rollups.roll_up(60, NOW)

    assert rows(metric=None)[0]["COVERED_MILLISECONDS"] == 38_000
