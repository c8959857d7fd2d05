"""Energy of given devices over any window: to the sample, from rollups where these are older, and windows that add up."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet.environment.tariff import Band, Tariff
from fleet.models import Device, DeviceKind
from telemetry import rollups
from telemetry.accounts import windows
from telemetry.accounts.account import Scope
from telemetry.accounts.windows import of_window, of_windows
from telemetry.message import wire
from telemetry.message.wire import DeviceInfo
from telemetry.models import Rollup, StoredBatch
from telemetry.prices.energy_rates import Rates
from tests.factories import make_device, make_host
from tests.telemetry.batches import payload, take

OTHER = DeviceInfo("GPU-other", wire.DeviceKind.NVIDIA, 0, "NVIDIA H100 80GB HBM3")
T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
HOUR, MINUTE = 3_600_000, 60_000

pytestmark = pytest.mark.django_db


def at(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


def store(start_ms, seconds, columns, *, sequence=0, host="gpu-a01", every=1, **fields):
    """Store samples of one GPU, `columns[metric]` called with each second since T0, in batches of five minutes."""
    times = [start_ms + 1000 * second for second in range(0, seconds, every)]
    for place in range(0, len(times), 300):
        some = times[place : place + 300]
        values = {name: [read((t - T0) / 1000) for t in some] for name, read in columns.items()}
        take(payload(some, values, sequence=sequence + place, host=host, sample_seconds=every, **fields), at(some[-1]))
    return Device.objects.select_related("host").get(host__name=host)


def counted(watts=400.0):
    return {"energy_joules_total": lambda second: 5000 + watts * second}


def drawn(watts=300.0):
    return {"power_draw_watts": lambda second: watts}


def lose_samples():
    StoredBatch.objects.all().delete()


def test_the_window_is_cut_to_the_millisecond():
    device = store(T0, 120, counted())

    found = of_window([device], T0 + 10_250, T0 + 95_750)

    assert (found.measured, found.estimated) == (pytest.approx(400 * 85.5), 0)
    assert (found.covered_seconds, found.asked_seconds) == (pytest.approx(85.5), 85.5)


def test_without_a_counter_it_is_estimated_from_power():
    device = store(T0, 60, drawn())

    found = of_window([device], T0 + 1500, T0 + 31_500)

    assert (found.measured, found.estimated, found.estimated_share) == (0, pytest.approx(9000), 1)


def test_a_window_before_the_first_sample_is_unknown_and_not_zero():
    device = store(T0, 60, counted())

    assert (of_window([device], T0 - HOUR, T0 - MINUTE).joules, of_window([], T0, T0 + 1).joules) == (None, None)


def test_a_gap_is_not_covered():
    device = store(T0, 60, counted())
    store(T0 + 600_000, 60, counted(), sequence=5)

    found = of_window([device], T0, T0 + 700_000)

    assert (found.measured, found.covered_seconds) == (pytest.approx(400 * 118), pytest.approx(118))


def test_hours_that_were_made_need_no_samples_and_their_ends_none_that_are_gone():
    device = store(T0 - 600_000, 2 * 3600 + 1200, counted(), every=10)
    rollups.roll_up(60, at(T0 + 3 * HOUR))
    lose_samples()

    found = of_window([device], T0 - 90_000, T0 + 2 * HOUR + 90_000)

    assert found.joules == pytest.approx(400 * (7200 + 180))
    assert (found.estimated, found.covered_seconds) == (pytest.approx(2 * 400 * 30), pytest.approx(7380))


def test_where_minutes_are_retired_too_quarters_and_hours_are_shared_out():
    device = store(T0, 3600, counted(), every=10)
    rollups.roll_up(60, at(T0 + 3 * HOUR))
    lose_samples()
    Rollup.objects.filter(step_seconds=60).delete()

    found = of_window([device], T0 + 600_000, T0 + HOUR)
    Rollup.objects.filter(step_seconds=900).delete()
    older = of_window([device], T0 + 600_000, T0 + HOUR)

    assert (found.joules, found.estimated) == (pytest.approx(400 * 2990), pytest.approx(400 * 300))
    assert (older.covered_seconds, older.estimated_share) == (pytest.approx(3590 * 50 / 60), 1)


def test_what_no_rollup_holds_yet_comes_from_samples():
    device = store(T0, 3 * 3600, counted(), every=10)
    rollups.roll_up(60, at(T0 + 2 * HOUR))

    assert of_window([device], T0, T0 + 3 * HOUR - 10_000).measured == pytest.approx(400 * (3 * 3600 - 10))


def test_a_late_batch_counts_before_its_hour_is_made_again():
    device = store(T0, 1200, counted(), every=10)
    store(T0 + 2400, 3600 - 2400, counted(), sequence=5000, every=10)
    rollups.roll_up(60, at(T0 + 3 * HOUR))
    store(T0 + 1200_000, 1200, counted(), sequence=9000, every=10)

    assert of_window([device], T0, T0 + HOUR).covered_seconds == pytest.approx(2400 - 10, abs=10)


def test_devices_of_many_hosts_are_summed_and_told_apart():
    first, second = store(T0, 600, counted()), store(T0, 600, drawn(), host="gpu-b01", device=OTHER)
    window = (T0 + 500, T0 + 100_500)

    both, each = of_window([second, first], *window), windows.by_device([second, first], *window)

    assert (both.measured, both.estimated, both.asked_seconds) == (pytest.approx(40_000), pytest.approx(30_000), 200)
    assert [each[device.uuid].joules for device in (first, second)] == pytest.approx([40_000, 30_000])


def test_another_device_of_the_host_is_not_counted():
    device = store(T0, 60, counted())
    idle = make_device(device.host, 7)

    assert of_window([idle], T0, T0 + 50_000).joules is None


def test_it_costs_what_the_hour_costs_and_the_building_comes_on_top_once():
    device = store(T0, 3601, counted(3600.0))
    night = Tariff(0.4, bands=(Band(frozenset(range(7)), 30, 60, 0.1),))

    found = of_window([device], T0, T0 + HOUR, rates=Rates(night, 500, 1.5))

    assert (found.cost, found.grams_co2) == (pytest.approx(3.6 * 0.25 * 1.5), pytest.approx(3.6 * 500 * 1.5))
    assert found.priced_by == {Scope.DEVICE}


def test_a_band_off_the_quarter_is_paid_for_to_the_minute():
    device = store(T0, 7201, {"power_draw_watts": lambda second: 300.0 if 3600 <= second < 4170 else 0.0})
    early = Tariff(0.4, bands=(Band(frozenset(range(7)), 70, 80, 0.1),))
    rollups.roll_up(60, at(T0 + 4 * HOUR))
    lose_samples()

    found = of_window([device], T0, T0 + 2 * HOUR, rates=Rates(early, None, None))

    assert found.cost == pytest.approx(found.kwh * 0.4)
    assert found.cost_estimated == 0


@pytest.mark.parametrize("window", [(T0, T0), (T0, T0 - 1)])
def test_a_window_that_does_not_end_after_it_begins_is_an_error(window):
    with pytest.raises(ValueError, match="ends after it begins"):
        of_window([], *window)


def test_meters_that_hold_one_another_are_never_added():
    host = make_host()
    gpu, node = make_device(host), make_device(host, kind=DeviceKind.NODE)
    part = make_device(host, 1, parent=gpu, profile="1g.10gb")

    for devices in ([gpu, node], [gpu, part]):
        with pytest.raises(ValueError, match="never added"):
            of_window(devices, T0, T0 + 1)


@pytest.fixture
def three_hours():
    """Counter, then power alone, then a gap: rolled up for two hours, the first of them without its samples by now."""
    device = store(T0, 5000, counted(), every=5)
    store(T0 + 5000_000, 2000, drawn(), sequence=20_000, every=5)
    store(T0 + 8000_000, 3000, counted(), sequence=30_000, every=5)
    rollups.roll_up(60, at(T0 + 2 * HOUR))
    StoredBatch.objects.filter(end_ms__lt=T0 + HOUR).delete()
    return device


EDGES = st.lists(st.integers(-60_000, 3 * HOUR + 60_000), min_size=3, max_size=12, unique=True).map(sorted)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(EDGES)
def test_windows_that_adjoin_add_up(three_hours, edges):
    moments = [T0 + edge for edge in edges]

    parts, whole = of_windows([three_hours], moments), of_window([three_hours], moments[0], moments[-1])

    assert sum(part.joules or 0 for part in parts) == pytest.approx(whole.joules or 0, abs=0.1)
    assert sum(part.covered_seconds for part in parts) == pytest.approx(whole.covered_seconds, abs=0.1)
    assert [part.joules for part in parts] == [
        pytest.approx(of_window([three_hours], *pair).joules, abs=0.1) for pair in pairwise(moments)
    ]
