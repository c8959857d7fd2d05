"""Idle waste in the rollups: by who had the device, over the edges of quarters, and the same whatever the order of batches."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet.models import Device, Host
from telemetry import rollups
from telemetry.models import StoredBatch
from telemetry.store import rolled, verify
from telemetry.store.idle_quarters import ALLOCATED, FREE, UNKNOWN
from telemetry.store.statistics import ENERGY, Field
from tests.telemetry.batches import GPU, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=30)
WATTS, EVERY = 100, 10  # one sample in ten seconds
MINUTE_JOULES = 60 * WATTS
NAMES = {ALLOCATED: "allocated", FREE: "free", UNKNOWN: "unknown"}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _samples_are_kept(settings):
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400


def batch(minutes, first=0, *, busy=0.0, allocation=2, sequence=0, peaks=None):
    """Return a batch of these minutes after T0, from `first` on; `allocation` of None is not told. A minute may have a peak."""
    n = minutes * 60 // EVERY
    times = [T0 + 60_000 * first + 1000 * EVERY * i for i in range(n)]
    columns = {
        "gpu_utilization_ratio": [busy if peaks is None or i % 6 else peaks for i in range(n)],
        "power_draw_watts": [float(WATTS)] * n,
    }
    if allocation is not None:
        columns["allocation"] = [allocation] * n
    return payload(times, columns, sample_seconds=EVERY, sequence=sequence)


def wasted(step=900, field=Field.IDLE_MILLIJOULES):
    """Return {bucket: {who had it: joules or seconds}} of what is not 0."""
    host = Host.objects.get()
    table = rolled.of_hosts([host.pk], step, 0, 2**60, [ENERGY])[host.pk]
    owner = Device.objects.get(uuid=GPU.uuid).pk
    rows = [row for row in table.rows(ENERGY, field).tolist() if table.keys.owners[row] == owner]
    found = {}
    for column, start_ms in enumerate(table.starts_ms.tolist()):
        values = {NAMES[int(table.keys.arguments[row])]: int(table.values[row, column]) / 1000 for row in rows}
        if any(values.values()):
            found[(start_ms - T0) // (1000 * step)] = {name: value for name, value in values.items() if value}
    return found


def roll_up():
    while rollups.roll_up(60, NOW):
        pass


@pytest.mark.parametrize(("allocation", "who"), [(0, "free"), (1, "allocated"), (3, "allocated"), (None, "unknown")])
def test_an_idle_quarter_is_wasted_by_who_has_the_device(allocation, who):
    take(batch(31, allocation=allocation), NOW)
    roll_up()

    assert wasted()[1] == {who: pytest.approx(15 * MINUTE_JOULES)}
    assert wasted(field=Field.IDLE_MILLISECONDS)[1] == {who: 900}


def test_a_busy_device_wastes_nothing():
    take(batch(31, busy=0.4), NOW)
    roll_up()

    assert wasted() == {}


@pytest.mark.parametrize(("peaks", "share"), [(0.27, 1), (0.33, 0)])
def test_a_minute_is_idle_by_its_mean_not_by_its_least_or_greatest_reading(peaks, share):
    take(batch(31, peaks=peaks), NOW)
    roll_up()

    assert sum(wasted().get(1, {}).values()) == pytest.approx(share * 15 * MINUTE_JOULES)


def test_a_stretch_that_began_in_the_quarter_before_is_booked_when_it_is_long_enough():
    take(batch(8, busy=0.9, sequence=0), NOW)
    take(batch(13, first=8, sequence=1), NOW)
    roll_up()

    assert wasted() == {1: {"allocated": pytest.approx(13 * MINUTE_JOULES, rel=0.02)}}


def test_a_device_that_is_given_back_wastes_on_both_sides():
    take(batch(20, sequence=0), NOW)
    take(batch(26, first=20, allocation=0, sequence=1), NOW)
    roll_up()

    assert wasted()[1] == {
        "allocated": pytest.approx(5 * MINUTE_JOULES, rel=0.02),
        "free": pytest.approx(10 * MINUTE_JOULES, rel=0.02),
    }


def test_hours_are_sums_of_quarters():
    take(batch(121), NOW)
    roll_up()

    of_quarters = [wasted()[quarter]["allocated"] for quarter in range(4, 8)]
    assert wasted(3600)[1]["allocated"] == sum(of_quarters) == pytest.approx(60 * MINUTE_JOULES)


def test_a_late_batch_of_the_quarter_before_has_the_next_one_made_again():
    take(batch(16, first=14, sequence=1), NOW)
    roll_up()
    before = wasted()
    take(batch(14, sequence=0), NOW)
    roll_up()

    assert before[1]["allocated"] == pytest.approx(16 * MINUTE_JOULES, rel=0.02)
    assert wasted()[1]["allocated"] == pytest.approx(15 * MINUTE_JOULES, rel=0.02)


STRETCHES = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 5, 9, 14]),  # minutes
        st.sampled_from([0.0, 0.0, 0.0, 0.9, None]),  # how busy it was; None: nothing is known
        st.sampled_from([0, 2, 2, None]),  # who had it
    ),
    min_size=1,
    max_size=20,
)


def pieces(stretches):
    """Return the stretches one after another as batches."""
    at, bodies = 0, []
    for minutes, busy, allocation in stretches:
        if busy is not None:
            bodies.append(batch(minutes, first=at, busy=busy, allocation=allocation, sequence=len(bodies)))
        at += minutes
    return bodies


def all_waste():
    return [wasted(step, field) for step in (900, 3600) for field in (Field.IDLE_MILLIJOULES, Field.IDLE_MILLISECONDS)]


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(STRETCHES, st.data())
def test_any_order_of_batches_and_passes_wastes_the_same(stretches, data):
    bodies = pieces(stretches)
    assume(bodies)
    with transaction.atomic():
        for body in bodies:
            take(body, NOW)
        roll_up()
        expected = all_waste()
        transaction.set_rollback(True)
    again = data.draw(st.lists(st.sampled_from(bodies), max_size=3))

    with transaction.atomic():
        for body in data.draw(st.permutations(bodies + again)):
            take(body, NOW)
            if upkeep := data.draw(st.sampled_from([None, None, rollups.roll_up, rollups.join])):
                upkeep(60, NOW)
        roll_up()
        found = all_waste()
        transaction.set_rollback(True)

    assert found == expected


def test_the_check_of_the_store_finds_it_right_and_sees_a_quarter_that_is_not():
    take(batch(61), NOW)
    roll_up()
    host = Host.objects.get()
    assert verify.host(host, T0, T0 + 86_400_000, NOW).differences == []
    StoredBatch.objects.all().delete()
    take(batch(61, allocation=0, sequence=1), NOW)
    rollups.minutes.roll_up(round(NOW.timestamp() * 1000), float("inf"))
    host.refresh_from_db()

    verify.DirtyRollup.objects.all().delete()
    told = [str(difference) for difference in verify.host(host, T0, T0 + 86_400_000, NOW).differences]
    assert any("idle_millijoules of energy over 900 s" in text for text in told), told
