"""The bench of step timings in the small: that it measures what it says, whatever this machine's figures are."""

from training.bench import client_cost, ranks
from training.bench.loop import RECORD_FUNCTION


def by_name(figures):
    return {figure.name: figure for figure in figures}


def test_a_steps_cost_stands_beside_its_peers_and_its_time_beside_another_clock(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_BENCH_LOOP_STEPS", "100")

    figures = client_cost.run(tmp_path)

    recorded = [figure for figure in figures if figure.peer == RECORD_FUNCTION]
    assert len(recorded) == 3
    assert all(0 < figure.value < 10_000 and figure.peer_value > 0 for figure in recorded)
    found = by_name(figures)
    assert 0 < found["with run.step(), no agent, median"].value < found["with run.step(), agent present, median"].value
    assert found["the same loop: steps dropped by the client"].value == 0
    assert 0 <= found["step times less those of a clock read inside of the step, median"].value < 1_000
    assert found["the same: of 20 steps, those beyond by 0.1 % and 20 µs"].met is not None


def test_the_steps_of_all_ranks_arrive_and_a_long_run_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_BENCH_RANKS_SECONDS", "6")
    monkeypatch.setattr(ranks, "N_HOSTS", 4)
    monkeypatch.setattr(ranks, "N_STEPS", 20_000)

    found = by_name(ranks.run(tmp_path / "ranks"))

    lost = found["32 ranks × 10 steps/s for 6 s: steps lost of 1,920"]
    assert (lost.value, lost.met) == (0, True)
    assert found["the same: its page, median"].value > 0
    assert 5 < found["the same: a step in the database"].value < 40
