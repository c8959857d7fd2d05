"""Which orders the runner carries out, and what it says of the others."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.training.agents import (
    CPU,
    GPU,
    HOST,
    LAUNCH,
    SLEEPS,
    STUBBORN,
    SUCCEEDS,
    StandInAgent,
    interpreter,
    is_alive,
    until,
)
from training.host.process import environment
from training.host.records import Record, Records


def started(directory: Path) -> int:
    return len((directory / "started").read_text().split())


@pytest.fixture
def agent(tmp_path):
    return StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS), device_wait_seconds=2)


@pytest.fixture
def busy(tmp_path):
    """Return an agent whose job 1 runs until it is cancelled."""
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    pid = agent.running(1).pid
    yield agent
    agent.cancel(1)
    until(lambda: not is_alive(pid))


def test_an_order_is_done_with_its_result(agent):
    agent.order(1)
    end = agent.end_of(1)
    assert (end.state, end.result) == ("done", {"samples": 10})


def test_a_redelivered_order_starts_nothing_twice(agent, tmp_path):
    payload = agent.order(1)
    agent.end_of(1)
    agent.runner.take_order(payload)
    agent.order(2)
    agent.end_of(2)
    assert started(tmp_path) == 2  # one of job 1, one of job 2


def test_a_redelivered_order_starts_nothing_after_the_agent_was_started_again(agent, tmp_path):
    payload = agent.order(1)
    agent.end_of(1)
    again = StandInAgent(tmp_path, agent.context.job_python)
    again.runner.take_order(payload)
    again.order(2)
    again.end_of(2)
    assert started(tmp_path) == 2


def test_a_redelivered_order_of_an_ended_job_says_again_how_it_ended(agent):
    payload = agent.order(1)
    end = agent.end_of(1)
    agent.runner.take_order(payload)
    until(lambda: agent.reports_of(1).count(end) == 2)


def test_a_running_jobs_redelivered_order_starts_nothing(busy):
    before = busy.record(1)
    busy.order(1)
    busy.order(2)
    busy.end_of(2)
    assert busy.record(1) == before


def test_an_order_is_known_by_its_job_and_launch_however_its_bytes_are_put(agent, tmp_path):
    agent.order(1, params={"steps": 5, "batch_size": 2})
    end = agent.end_of(1)
    until(lambda: not agent.runner._busy)
    agent.order(1, params={"batch_size": 2, "steps": 5}, expires_ms=1)
    until(lambda: agent.reports_of(1).count(end) == 2)
    assert started(tmp_path) == 1


def test_an_expired_order_of_a_job_that_nobody_knows_starts_nothing(agent, tmp_path):
    agent.order(1, expires_ms=1)
    assert agent.end_of(1).state == "failed"
    assert not (tmp_path / "started").exists()


def late(seconds: float) -> int:
    """Return when an order had to start its job by: so many seconds ago."""
    return int((time.time() - seconds) * 1000)


def test_a_late_order_starts_nothing_and_the_next_one_does(agent):
    agent.order(1, starts_by_ms=late(1))
    agent.has_decided()
    assert (agent.record(1), agent.reports_of(1)) == (None, [])

    agent.order(1, starts_by_ms=late(-20))
    assert agent.end_of(1).state == "done"


@pytest.mark.parametrize(
    ("offset", "starts"), [((-30.0, 0.1), True), ((0.0, 5.0), True), ((30.0, 0.1), False), (None, False)]
)
def test_whether_an_order_is_late_goes_by_the_servers_clock_as_far_as_it_is_known(agent, offset, starts):
    agent.clock_offset = offset
    agent.order(1, starts_by_ms=late(2), params={"steps": "many"})  # refused, and so told of, where it is not late
    agent.has_decided()

    assert [report.state for report in agent.reports_of(1)] == ["failed"] * starts


def test_a_late_order_of_an_ended_job_says_again_how_it_ended(agent):
    agent.order(1)
    agent.end_of(1)
    agent.order(1, starts_by_ms=late(60))
    until(lambda: len([each for each in agent.reports_of(1) if each.state == "done"]) == 2)


def test_an_ended_jobs_number_of_another_launch_is_a_new_job(agent, tmp_path):
    agent.order(1)
    agent.end_of(1)
    until(lambda: not agent.runner._busy)
    agent.order(1, launch="fedcba")
    until(lambda: agent.states(1).count("done") == 2)
    assert started(tmp_path) == 2
    assert agent.record(1).launch == "fedcba"


def test_a_jobs_end_that_was_not_sent_yet_is_told_before_its_number_is_another_job(tmp_path):
    python = interpreter(tmp_path, SUCCEEDS)
    offline = StandInAgent(tmp_path, python, has_broker=False)
    offline.order(1)
    end = offline.end_of(1)
    until(lambda: not offline.runner._busy)
    said = offline.reports.count(end)
    offline.order(1, launch="fedcba")
    until(lambda: offline.record(1).launch == "fedcba")
    assert offline.reports.count(end) == said + 1


@pytest.mark.parametrize("report", [{"colour": "red"}, {"job": 2**70}], ids=["of no agent", "not to be packed"])
def test_an_odd_record_keeps_no_new_job_from_its_number(agent, tmp_path, report):
    agent.has_decided()
    Records(tmp_path / "jobs").claim(Record(1, "fedcba", "done", 0, final_report=report))
    agent.order(1)
    assert agent.end_of(1).state == "done"


def test_a_running_jobs_number_of_another_launch_is_refused(busy):
    before = busy.record(1)
    busy.order(1, launch="fedcba")
    until(lambda: any(report.launch == "fedcba" for report in busy.reports_of(1)))
    refusal = next(report for report in busy.reports_of(1) if report.launch == "fedcba")
    assert (refusal.state, busy.record(1)) == ("failed", before)
    assert refusal.reason.startswith(f"{HOST} still runs a reference job 1 of another launch ({LAUNCH})")


def test_a_busy_device_refuses_the_second_job(busy):
    busy.order(2)
    end = busy.end_of(2)
    assert (end.state, end.reason) == ("failed", f"device {CPU.uuid} is busy with reference job 1")


def test_a_device_is_free_again_after_its_job(agent):
    agent.order(1)
    agent.end_of(1)
    until(lambda: not agent.runner._busy)
    agent.order(2)
    assert agent.end_of(2).state == "done"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_ms": 1_700_000_000_000}, "the order expired at 2023-11-14 22:13:20+00:00 before this host took it"),
        ({"workload": "mine"}, "workload: 'mine' is not one of resnet-train, vit-train, gpt-train"),
        ({"params": {"steps": 1}}, "steps: 1 is not between 5 and 100000"),
        ({"params": {"command": "rm"}}, "command: gpt-train has no such parameter"),
        ({"device_uuid": "GPU-elsewhere"}, "this host has no device 'GPU-elsewhere'"),
    ],
)
def test_an_order_that_cannot_be_carried_out_fails_with_its_reason(agent, tmp_path, changes, reason):
    agent.order(1, **changes)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert end.reason.startswith(reason)
    assert not (tmp_path / "started").exists()


def test_another_hosts_order_and_foreign_bytes_have_no_effect(agent, tmp_path):
    agent.order(1, host="node-2")
    agent.runner.take_order(b"\xff\x00 no order")
    agent.runner.take_cancel(b"\x93\x01\x02\x03")
    agent.order(2)
    agent.end_of(2)
    assert agent.reports_of(1) == []
    assert agent.record(1) is None


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    agent = StandInAgent(tmp_path, str(tmp_path / "no-python"))
    agent.order(1)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert "no-python cannot be started (No such file or directory)" in end.reason


def test_a_job_over_its_time_limit_is_killed(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, STUBBORN))
    agent.order(1, time_limit_seconds=1)
    pid = agent.running(1).pid
    end = agent.end_of(1, seconds=10)
    assert (end.state, end.reason) == ("failed", "took longer than its limit of 1 s")
    assert not is_alive(pid)


def test_a_killed_process_is_named_with_its_signal(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    os.kill(agent.running(1).pid, signal.SIGKILL)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert (
        end.reason == "the job's process was killed by signal 9 (SIGKILL), and not by the kernel's out-of-memory killer"
    )


def test_an_end_without_a_result_is_told_with_status_and_last_line(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, "echo loading; echo 'it broke' >&2; exit 7"))
    agent.order(1)
    end = agent.end_of(1)
    assert end.reason == "the job's process ended with exit status 7 and no result; its last line: it broke"
    assert end.log == "loading\nit broke\n"


def test_an_order_waits_for_a_sampler_that_has_found_no_device_yet(agent):
    agent.devices = []
    agent.order(1)
    until(lambda: agent.record(1))
    agent.devices = [CPU]
    assert agent.end_of(1).state == "done"


def test_an_order_for_an_accelerator_waits_for_a_driver_that_is_slower_than_the_cpu(agent):
    agent.devices = [CPU]
    agent.order(1, device_uuid=GPU.uuid)
    until(lambda: agent.runner._jobs)
    agent.devices = [CPU, GPU]
    assert agent.end_of(1).state == "done"


def test_a_job_sees_no_secret_and_only_its_accelerator():
    inherited = {"PATH": "/bin", "STEPWATT_BROKER_URL": "redis://:secret@h", "PYTHONPATH": "/x", "LD_PRELOAD": "/y"}
    found = environment("nvidia", "GPU-1", inherited)
    assert "secret" not in str(found)
    assert "LD_PRELOAD" not in found
    assert (found["PATH"], found["CUDA_VISIBLE_DEVICES"]) == ("/bin", "GPU-1")
    assert environment("cpu", "cpu-1", inherited)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_running_job_is_heard_of_at_least_every_two_seconds(busy):
    at = [report.at_ms for report in busy.reports_of(1)]
    until(lambda: len(busy.reports_of(1)) >= len(at) + 3, seconds=10)
    times = [report.at_ms for report in busy.reports_of(1)]
    assert max(later - earlier for earlier, later in pairwise(times)) < 2_000
