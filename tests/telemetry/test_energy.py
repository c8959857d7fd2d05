"""Energy of a device over a window."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models import Device
from telemetry.energy import energy_between, trapezoid
from telemetry.ingest import ingest
from telemetry.store.read import Samples
from tests.telemetry.batches import payload

T0 = 1_800_000_000_000
NOW = datetime.fromtimestamp(T0 / 1000 + 3600, UTC)


def store(times, columns):
    ingest(payload(times, columns), NOW)
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


@given(st.lists(st.floats(0, 1000), min_size=3, max_size=40), st.integers(1, 39))
def test_energy_of_a_window_is_the_sum_of_its_parts(watts, cut):
    times = np.arange(len(watts), dtype=np.int64) * 1000
    power = Samples(times, np.array(watts))
    end, middle = int(times[-1]), min(cut, len(watts) - 1) * 1000 - 337

    whole, _ = trapezoid(power, 0, end, 2500)
    left, _ = trapezoid(power, 0, middle, 2500)
    right, _ = trapezoid(power, middle, end, 2500)

    assert left + right == pytest.approx(whole, abs=1e-6)
