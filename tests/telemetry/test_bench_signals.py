"""The made-up readings of the benches: their steps, that nothing repeats, and that both sides get the same numbers."""

import json

import numpy as np
import pytest

from telemetry.bench import prometheus, signals, victoria
from telemetry.bench.signals import METRICS, Signals, in_units
from telemetry.catalog import BY_NAME, Kind
from telemetry.decoding import received
from telemetry.message.wire import pack

START_MS = 1_800_000_000_000


def hour():
    """An hour of four GPUs, `(25, 4, 3600)` in steps."""
    return Signals(4, seed=3).advance(3600)


def of(found, metric):
    return found[METRICS.index(metric)]


def test_the_same_seed_gives_the_same_readings():
    assert np.array_equal(Signals(4, seed=3).advance(50), hour()[:, :, :50])


def test_readings_go_on_from_one_call_to_the_next():
    live = Signals(4, seed=3)

    assert np.array_equal(np.concatenate([live.advance(20), live.advance(30)], axis=2), hour()[:, :, :50])


def test_no_stretch_of_the_power_comes_again():
    watts = of(hour(), "power_draw_watts")[0]
    stretches = {tuple(watts[at : at + 5]) for at in range(len(watts) - 4)}

    assert len(stretches) == len(watts) - 4


def test_counters_never_fall():
    found = hour()
    for metric in METRICS:
        if BY_NAME[metric].kind is Kind.COUNTER:
            assert (np.diff(of(found, metric), axis=1) >= 0).all()


def test_energy_is_the_integral_of_the_power():
    found = hour()
    joules = of(found, "energy_joules_total") / 1000
    watts = of(found, "power_draw_watts") / 1000

    assert np.allclose(np.diff(joules, axis=1), watts[:, 1:], atol=2e-3)


@pytest.mark.parametrize(
    ("metric", "step"),
    [
        ("temperature_celsius", 1),
        ("sm_clock_hertz", 15e6),
        ("memory_used_bytes", 2**21),
        ("gpu_utilization_ratio", 0.01),
    ],
)
def test_readings_have_the_vendors_steps(metric, step):
    values = of(in_units(hour()), metric) / step

    assert np.allclose(values, np.rint(values), atol=1e-6)


def test_some_metrics_move_each_second_and_some_hardly_ever():
    moving = (np.diff(hour(), axis=2) != 0).mean(axis=(1, 2))

    assert sum(moving > 0.3) >= 9
    assert sum(moving < 0.01) >= 8


def one_batch():
    return next(signals.batches("gpu-1", "ab" * 16, Signals(8, seed=1), START_MS, 1, 10))


def test_a_batch_carries_the_readings_to_the_last_digit():
    made, values = one_batch()
    batch = received.unpack(pack(made))

    assert batch.times_ms == [START_MS + 1000 * n for n in range(10)]
    assert np.array_equal([batch.columns[metric] for metric in METRICS], values)


def test_the_peer_reads_the_same_numbers_as_json():
    made, values = one_batch()
    lines = [json.loads(line) for line in victoria.json_body(made.host, made.times_ms, values).splitlines()]

    assert [line["metric"]["__name__"] for line in lines[::8]] == list(METRICS)
    assert np.array_equal([line["values"] for line in lines], values.reshape(200, 10))
    assert all(line["timestamps"] == made.times_ms for line in lines)


def test_the_peer_reads_the_same_numbers_as_text():
    made, values = one_batch()
    lines = victoria.text_body(made.host, made.times_ms, values).decode().splitlines()
    read = [line.rpartition("} ")[2].split() for line in lines]

    assert np.array_equal([float(value) for value, _ in read], values.reshape(200, 10).T.ravel())
    assert [int(at) for _, at in read] == [at for at in made.times_ms for _ in range(200)]


def test_the_peer_reads_the_same_numbers_as_openmetrics():
    made, values = one_batch()
    read = [line.rpartition("} ")[2].split() for line in prometheus.openmetrics(made.host, made.times_ms, values)]

    assert np.array_equal([float(value) for value, _ in read], values.ravel())
    assert [round(float(at) * 1000) for _, at in read[:10]] == made.times_ms
