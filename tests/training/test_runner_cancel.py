"""A cancel gets through at any time, and before its order too."""

import pytest

from tests.training.agents import LAUNCH, SLEEPS, STUBBORN, SUCCEEDS, StandInAgent, interpreter, is_alive, until
from training.host.job import KILL_AFTER_SECONDS, POLL_SECONDS
from training.host.process import JobProcess
from training.message.wire import pack_cancel


def test_a_job_that_does_not_hear_a_cancel_is_killed_within_five_seconds():
    assert KILL_AFTER_SECONDS + 2 * POLL_SECONDS < 5


@pytest.mark.parametrize("body", [SLEEPS, STUBBORN], ids=["obedient", "stubborn"])
def test_a_cancel_ends_the_whole_job(tmp_path, body):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, body))
    agent.order(1)
    pid = agent.running(1).pid
    agent.cancel(1)
    end = agent.end_of(1)
    assert (end.state, end.reason) == ("cancelled", "cancelled while it ran")
    assert not is_alive(pid)


def test_a_cancel_ends_a_real_training(tmp_path):
    agent = StandInAgent(tmp_path)
    agent.order(1, params={"steps": 10_000, "batch_size": 1})
    pid = agent.running(1).pid
    until(lambda: any(report.stage == "measure" for report in agent.reports_of(1)), seconds=120)
    agent.cancel(1)
    assert agent.end_of(1).state == "cancelled"
    assert not is_alive(pid)


def test_a_process_that_was_killed_before_its_cancel_was_obeyed_keeps_its_own_reason(tmp_path, monkeypatch):
    agent, has_ended = StandInAgent(tmp_path, interpreter(tmp_path, "kill -9 $$")), JobProcess.has_ended

    def cancelled_once_it_has(process):
        if has_ended(process):
            agent.runner._jobs[1, LAUNCH].cancel()
        return has_ended(process)

    monkeypatch.setattr(JobProcess, "has_ended", cancelled_once_it_has)
    agent.order(1)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert "killed by signal 9" in end.reason


def test_a_cancel_before_its_order_keeps_the_job_from_starting(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    agent.cancel(1)
    agent.order(1)
    agent.order(2)
    assert agent.end_of(2).state == "done"
    assert agent.states(1) == ["cancelled"]


def test_a_cancel_before_its_order_is_remembered_by_the_next_agent(tmp_path):
    python = interpreter(tmp_path, SUCCEEDS)
    first = StandInAgent(tmp_path, python)
    first.cancel(1)
    first.end_of(1)
    again = StandInAgent(tmp_path, python)
    again.order(1)
    again.order(2)
    assert again.end_of(2).state == "done"
    assert again.states(1) in ([], ["cancelled"])


def test_a_cancel_reaches_a_job_that_still_waits_for_its_device(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    agent.devices = []
    agent.order(1)
    agent.cancel(1)
    assert agent.end_of(1).state == "cancelled"  # else it would fail for want of its device


def test_a_second_cancel_changes_nothing(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    agent.running(1)
    agent.cancel(1)
    agent.cancel(1)
    end = agent.end_of(1)
    until(lambda: not agent.runner._jobs)
    agent.cancel(1)
    until(lambda: agent.reports_of(1).count(end) == 2)  # the third one asks how it ended
    assert agent.states(1)[-1] == "cancelled"


def test_a_cancel_for_another_host_has_no_effect(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    agent.runner.take_cancel(pack_cancel(1, LAUNCH, "node-2"))
    agent.order(1)
    assert agent.end_of(1).state == "done"


def test_a_cancel_of_another_servers_job_keeps_no_job_of_that_number_from_running(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    agent.cancel(1, launch="fedcba")
    agent.order(1)
    until(lambda: agent.states(1)[-1:] == ["done"])
    assert agent.states(1)[0] == "cancelled"


def test_a_cancel_of_another_launch_does_not_end_the_running_job(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    agent.running(1)
    agent.cancel(1, launch="fedcba")
    agent.has_decided()
    assert not agent.runner._jobs[1, LAUNCH].is_cancelled
    agent.cancel(1)
    assert agent.end_of(1).launch == LAUNCH


@pytest.mark.parametrize("body", [SLEEPS, STUBBORN], ids=["obedient", "stubborn"])
def test_a_job_that_comes_while_another_is_being_ended_waits_for_the_device(tmp_path, body):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, f"[ -e again ] || {{ touch again; {body}; }}\n{SUCCEEDS}"))
    agent.order(1)
    pid = agent.running(1).pid
    until((tmp_path / "again").exists)
    agent.cancel(1)
    agent.order(2)

    assert agent.end_of(2).state == "done"
    assert agent.end_of(1).state == "cancelled"
    assert not is_alive(pid)


def test_one_that_waits_for_the_device_can_be_cancelled_too(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, STUBBORN))
    agent.order(1)
    agent.running(1)
    agent.cancel(1)
    agent.order(2)
    agent.cancel(2)

    assert agent.end_of(2).state == "cancelled"
    until(lambda: not agent.runner._busy)
    assert agent.end_of(1).state == "cancelled"
