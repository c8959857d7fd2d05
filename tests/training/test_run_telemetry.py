"""The telemetry of a run's own devices: which readings there are, and the power during each step."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.models import DeviceKind
from tests.factories import make_chunks, make_device, make_host
from tests.training.runs import START, make_run, rank_steps, with_power
from tests.training.stored_steps import enter
from training.runs import device_readings
from training.runs.device_readings import Power
from training.runs.members import members

END = START + 40_000


def power(*watts: float) -> Power:
    return Power(0.0, 1000.0, np.array(watts))


def means(found: Power, *spans: tuple[float, float]) -> list[float]:
    starts, ends = (np.array(column, float) for column in zip(*spans, strict=True))
    return found.mean(starts, ends).tolist()


def test_the_power_of_a_step_is_the_mean_of_the_time_in_which_it_went_on():
    assert means(power(100, 200, 400), (0, 1000), (500, 1500), (0, 3000)) == pytest.approx([100, 150, 700 / 3])


def test_a_step_that_reaches_into_a_gap_has_no_power():
    assert np.isnan(means(power(100, np.nan, 400), (500, 1500), (0, 3000))).all()
    assert means(power(100, np.nan, 400), (0, 1000), (2000, 3000)) == [100, 400]


def test_a_step_beyond_what_was_read_has_no_power():
    assert np.isnan(means(power(100, 200), (-500, 500), (1500, 2500))).all()


def test_any_split_of_a_time_has_the_same_energy():
    found = power(100, 350, 20, 470)
    parts = means(found, (0, 700), (700, 2600), (2600, 4000))

    assert sum(watts * ms for watts, ms in zip(parts, (700, 1900, 1400), strict=True)) == pytest.approx(
        means(found, (0, 4000))[0] * 4000
    )


@pytest.mark.django_db
def test_a_run_shows_what_its_devices_read():
    who = members(with_power(make_run()))

    assert [source.name for source in device_readings.offered(who, START, END)] == [
        "power_draw_watts", "gpu_utilization_ratio", "temperature_celsius", "sm_clock_hertz"
    ]  # fmt: skip


@pytest.mark.django_db
def test_where_no_device_reads_power_its_hosts_meter_stands_for_them():
    run = make_run()
    node = make_device(run.ranks.first().host, 0, kind=DeviceKind.NODE)
    times = [START + 1000 * second for second in range(41)]
    make_chunks(node.host, [node], times, {"power_draw_watts": [[5000.0] * 41]}, ticks=41)
    [source] = device_readings.offered(members(run), START, END)

    assert (source.name, source.label, source.noun) == ("node.power_draw_watts", "Power at the wall", "node")


@pytest.mark.django_db
def test_a_run_whose_devices_read_nothing_shows_nothing():
    assert device_readings.offered(members(make_run()), START, END) == []


@pytest.mark.django_db
def test_power_of_several_devices_is_unknown_where_one_of_them_is():
    run = with_power(make_run())
    late = make_device(make_host("gpu-a09"), 0)
    who = members(run)
    [source] = device_readings.named(["power_draw_watts"], who)
    [with_late] = device_readings.named(["power_draw_watts"], replace(who, devices=[*who.devices, late]))
    block = device_readings.series([source], START, END, 40)["power_draw_watts"]

    assert np.nanmedian(Power.of(block, source).watts) == pytest.approx(1200)
    assert np.isnan(Power.of(block, with_late).watts).all()


@pytest.mark.django_db
def test_a_run_that_went_on_elsewhere_shows_each_device_while_it_was_on_it():
    run, other = make_run(n_ranks=1), make_device(make_host("gpu-b01"), 0)
    steps = rank_steps(0, 20, start_ms=START + 60_000, number=np.arange(40, 60))
    enter(other.host, steps, run=run.name, launch=run.launch, process="later", devices=(other.uuid,))
    first = run.ranks.get(attempt=0).device
    times = [START + 1000 * second for second in range(81)]
    for device, watts in ((first, 100.0), (other, 700.0)):
        make_chunks(device.host, [device], times, {"power_draw_watts": [[watts] * 81]}, ticks=81)
    [source] = device_readings.offered(members(run), START, START + 80_000)
    block = device_readings.series([source], START, START + 80_000, 80)[source.name]
    shown = {each.uuid: block.of(each.uuid, "power_draw_watts").mean for each in source.devices}

    is_first = np.array(block.times_ms) < START + 60_000

    assert np.isnan(shown[first.uuid]).tolist() == (~is_first).tolist()
    assert np.isnan(shown[other.uuid]).tolist() == is_first.tolist()
    assert Power.of(block, source).watts.tolist() == np.where(is_first, 100.0, 700.0).tolist()


@pytest.mark.django_db
def test_few_series_are_read_from_samples_over_a_longer_time_than_a_page_of_many():
    run = with_power(make_run(n_ranks=1))
    sources = device_readings.named(["power_draw_watts"], members(run))
    day = START + 3 * 3_600_000

    assert device_readings.series(sources, START, day, 3000)["power_draw_watts"].is_raw
