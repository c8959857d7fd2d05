"""The benches of ingest and query: what they make of what they measured, and small runs of the real processes."""

import subprocess
import sys
import time

import numpy as np
import pytest

from telemetry.bench import energy, fleet_run, postgresql, query, whole_path
from telemetry.bench.content import digest_of
from telemetry.bench.figure import BenchFailed
from telemetry.bench.fleet_run import Delays
from telemetry.bench.own_server import own_server
from telemetry.bench.process_cost import tree_cpu_seconds
from telemetry.bench.query import Times
from telemetry.bench.signals import METRICS
from telemetry.bench.whole_path import Fleet, Load, OwnSide, Speed
from telemetry.catalog import BY_NAME

LOAD = Load(n_hosts=2, n_batches=3, n_ticks=10)


def test_a_sample_is_queryable_when_it_is_first_seen():
    delays = Delays(start_ms=10_000)
    delays.look({"a": 12_000}, now_ms=14_500)
    delays.look({"a": 12_000}, now_ms=20_000)

    assert delays.seconds == [2.5, 3.5, 4.5]


def test_the_delay_that_nearly_all_keep_to():
    delays = Delays(0, seconds=[float(n) for n in range(100)])

    assert (delays.percentile(0.5), delays.percentile(0.99)) == (50.0, 99.0)


def test_a_fleet_that_was_never_seen_has_no_figures():
    with pytest.raises(BenchFailed, match="no sample"):
        Delays(0).percentile(0.5)


def test_without_its_peer_a_speed_is_neither_met_nor_missed():
    figure = whole_path._speed(LOAD, Speed(1e6, 0.3), "text import", None, 1.2)

    assert (figure.peer_value, figure.met) == (None, None)


@pytest.mark.parametrize(("cpu_seconds", "scraped", "met"), [(0.4, 1.0, True), (0.6, 2.0, False), (0.4, 0.7, False)])
def test_the_cpu_time_keeps_to_both_of_its_limits(cpu_seconds, scraped, met):
    assert whole_path._cpu(Speed(1e6, cpu_seconds), scraped).met is met


@pytest.mark.parametrize(("idle_cores", "two", "met"), [(0.5, 1.7e6, None), (0.9, 1.7e6, True), (0.9, 1.5e6, False)])
def test_two_workers_are_judged_only_where_one_leaves_them_a_core(idle_cores, two, met):
    one = Speed(1e6, cpu_seconds=1.1, idle_cores=idle_cores)

    assert postgresql._figures(one, Speed(two, 1.0))[0].met is met


def test_a_question_is_judged_by_its_median_beside_its_peers():
    times = {"": Times(2.0, 9.0), "VictoriaMetrics": Times(10.0, 11.0)}
    median, p95 = query._beside("a page", times, "VictoriaMetrics", 0.25)

    assert (median.value, median.peer_value, median.met) == (2.0, 10.0, True)
    assert (p95.value, p95.peer_value, p95.met) == (9.0, 11.0, None)


def test_a_question_without_its_peer_is_neither_met_nor_missed():
    assert query._beside("a page", {"": Times(2.0, 9.0)}, "VictoriaMetrics", 0.25)[0].met is None


@pytest.mark.parametrize(
    ("ours", "words"), [([1.0, 2.5], "differs"), ([1.0, None], "1 empty"), ([1.0, 2.0, 3.0], "3 steps")]
)
def test_an_answer_to_another_question_is_no_figure(ours, words):
    query._check_alike("mean", [1.0, 2.0], [1.0, 2.0])

    with pytest.raises(BenchFailed, match=words):
        query._check_alike("mean", ours, [1.0, 2.0])


def test_each_request_asks_for_an_earlier_window():
    windows = [query._window(1_000_000, 60_000, 1000, number) for number in range(2)]

    assert windows == [(940_000, 1_000_000), (939_000, 999_000)]


def test_the_cpu_time_of_a_tree_holds_that_of_children_which_ended():
    work = "import time\nend = time.process_time() + 1.0\nwhile time.process_time() < end: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work!r}])\nprint(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    used = tree_cpu_seconds(process.pid)
    process.communicate(b"\n")

    assert 1.0 <= used < 2.0  # twice were counted twice; the rest is what two interpreters take to begin


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """A server whose worker has taken three batches of two hosts, and what they were."""
    fleet = Fleet(LOAD, 1)
    with own_server(tmp_path_factory.mktemp("bench")) as server:
        own = OwnSide(server, fleet.names)
        made = fleet.live()
        own.publish("round", made)
        server.start_worker()
        speed = own.take("round", LOAD)
        yield server, made, speed


def test_a_round_is_over_when_all_of_it_is_stored(side):
    server, made, speed = side

    assert server.calls("n_accepted") == len(made) == 6
    assert server.calls("n_values") == LOAD.n_values == 6 * 2000
    assert speed.values_per_second > 0
    assert speed.cpu_seconds > 0


def test_the_store_has_the_content_that_was_sent(side):
    server, made, _ = side
    own = [each for each in made if each.host == "host-001"]
    times_ms = [at for each in own for at in each.times_ms]
    sent = _digest(own, times_ms, gpu=3)

    assert server.calls("digest", "GPU-host-001-3", times_ms[0], times_ms[-1] + 1) == sent


def test_the_store_tells_how_new_each_host_is(side):
    server, made, _ = side

    assert server.calls("newest_ms", "host-001") == {"host-001": made[-1].times_ms[-1]}


def test_what_the_store_refuses_ends_the_bench(side):
    server, _, _ = side
    with pytest.raises(BenchFailed, match="digest: DoesNotExist"):
        server.calls("digest", "GPU-of-nobody", 0, 1)


def test_a_worker_that_stores_nothing_ends_the_bench(side, monkeypatch):
    server, _, _ = side
    monkeypatch.setattr("telemetry.bench.own_server._NO_PROGRESS_SECONDS", 0.2)
    with pytest.raises(BenchFailed, match="6 of 7 batches were stored"):
        server.wait_until_taken(7)


def test_a_short_life_of_a_small_fleet_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet_run, "N_HOSTS", 3)
    monkeypatch.setattr("telemetry.bench.logins.EVERY_SECONDS", 3.0)
    monkeypatch.setenv("STEPWATT_BENCH_FLEET_SECONDS", "12")
    began = time.monotonic()
    figures = {figure.name: figure for figure in fleet_run.run(tmp_path)}
    lost = figures["24 GPUs × 25 metrics at 1 Hz for 12 s: values lost of 7,200"]

    assert (lost.value, lost.met) == (0, True)
    assert (
        0 < figures["24 GPUs × 25 metrics at 1 Hz for 12 s: sample to queryable, p99"].value < time.monotonic() - began
    )
    assert {f"the same: {name} alone" for name in ("broker", "ingest", "worker", "beat", "web")} <= set(figures)
    assert figures["login, p95, while the fleet sends"].value > 0


def _digest(made, times_ms, gpu):
    times = np.array(times_ms, np.int64)
    found = np.concatenate([each.values for each in made], axis=2)[:, gpu]
    steps = [
        np.rint(row / BY_NAME[metric].resolution).astype(np.int64) for metric, row in zip(METRICS, found, strict=True)
    ]
    return digest_of((times, row) for row in steps)


def test_a_small_fleets_month_of_energy_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "N_HOSTS", 2)
    monkeypatch.setattr(energy, "N_REQUESTS", 1)
    end_ms = int(time.time() * 1000) // 3_600_000 * 3_600_000
    figures = {figure.name: figure for figure in energy.run(end_ms, tmp_path)}

    assert figures["energy by host, 16 GPUs over 30 d, p95"].met is not None
    assert all(figure.value > 0 for figure in figures.values())
    assert len(figures) == 8
