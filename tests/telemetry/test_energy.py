"""Energy of a device over a window."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models import Device
from telemetry.accounts.energy import energy_between, trapezoid
from telemetry.store import read
from telemetry.store.samples import Samples
from tests.telemetry.batches import payload, take

T0 = 1_800_000_000_000
NOW = datetime.fromtimestamp(T0 / 1000 + 3600, UTC)


def store(times, columns, **fields):
    take(payload(times, columns, **fields), NOW)
    return Device.objects.get()


@pytest.mark.django_db
def test_a_counter_gives_its_difference_interpolated_at_the_edges():
    device = store([T0 + 1000 * n for n in range(11)], {"energy_joules_total": [5000.0 + 300 * n for n in range(11)]})

    found = energy_between(device, T0 + 2500, T0 + 7500)

    assert (found.joules, found.method, found.is_estimated) == (pytest.approx(1500), "counter", False)
    assert found.mean_watts == pytest.approx(300)


@pytest.mark.django_db
def test_without_a_counter_power_is_integrated_and_marked_as_estimated():
    device = store([T0 + 1000 * n for n in range(11)], {"power_draw_watts": [100.0 + 10 * n for n in range(11)]})

    found = energy_between(device, T0, T0 + 10_000)

    assert (found.joules, found.method, found.is_estimated) == (pytest.approx(1500), "trapezoid", True)


@pytest.mark.django_db
def test_a_counter_that_was_reset_in_the_window_falls_back_to_power():
    times = [T0 + 1000 * n for n in range(11)]
    counter = [5000.0 + 300 * n if n < 5 else 300.0 * n for n in range(11)]
    device = store(times, {"energy_joules_total": counter, "power_draw_watts": [300.0] * 11})

    found = energy_between(device, T0 + 1000, T0 + 9000)

    assert (found.joules, found.method) == (pytest.approx(2400), "trapezoid")


@pytest.mark.django_db
def test_a_window_with_a_gap_has_no_energy_but_a_reason():
    device = store([T0, T0 + 1000, T0 + 9000, T0 + 10_000], {"power_draw_watts": [300.0] * 4})

    found = energy_between(device, T0, T0 + 10_000)

    assert found.joules is None
    assert found.mean_watts is None
    assert "2.0 s of 10.0 s" in found.reason


@pytest.mark.django_db
def test_a_device_without_power_readings_says_so():
    device = store([T0, T0 + 1000], {"gpu_utilization_ratio": [0.5, 0.5]})

    assert "no power" in energy_between(device, T0, T0 + 1000).reason


@pytest.mark.django_db
def test_a_host_that_samples_each_ten_seconds_has_energy_too():
    times = [T0 + 10_000 * n for n in range(7)]
    device = store(times, {"power_draw_watts": [300.0] * 7}, sample_seconds=10)

    assert energy_between(device, T0 + 5000, T0 + 55_000).joules == pytest.approx(15_000)


@pytest.mark.django_db
def test_a_clock_that_was_set_back_neither_adds_nor_multiplies_energy():
    """The same 60 s stand twice on the time axis; the counter went on growing at 100 W."""
    first = [T0 + 1000 * n for n in range(60)]
    store(first, {"energy_joules_total": [100.0 * n for n in range(60)], "power_draw_watts": [100.0] * 60})
    again = {"energy_joules_total": [6000 + 100.0 * n for n in range(60)], "power_draw_watts": [100.0] * 60}
    device = store(first, again, sequence=1, segment=1)

    assert energy_between(device, T0 + 10_000, T0 + 50_000).joules == pytest.approx(4000)
    increase = read.bucketed([device], ["energy_joules_total"], T0, T0 + 60_000, 10).series[device.uuid]
    assert np.nansum(increase["energy_joules_total"].increase) == pytest.approx(2 * 5900)


@given(st.lists(st.floats(0, 1000), min_size=3, max_size=40), st.integers(1, 39))
def test_energy_of_a_window_is_the_sum_of_its_parts(watts, cut):
    times = np.arange(len(watts), dtype=np.int64) * 1000
    power = Samples(times, np.array(watts), np.zeros_like(times), np.full_like(times, 1000))
    end, middle = int(times[-1]), min(cut, len(watts) - 1) * 1000 - 337

    whole, _ = trapezoid(power, 0, end)
    left, _ = trapezoid(power, 0, middle)
    right, _ = trapezoid(power, middle, end)

    assert left + right == pytest.approx(whole, abs=1e-6)
