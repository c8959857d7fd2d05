"""What becomes of jobs when their agent is told to end."""

import pytest

from tests.training.agents import SLEEPS, STUBBORN, SUCCEEDS, StandInAgent, interpreter, is_alive
from training.host import runner
from training.host.job import KILL_AFTER_SECONDS, POLL_SECONDS

STOPPED = "the agent was stopped while the job ran, and ended it"


def test_a_job_that_does_not_hear_the_stop_is_killed_before_the_stop_is_over():
    assert KILL_AFTER_SECONDS + 2 * POLL_SECONDS <= runner.STOP_SECONDS


@pytest.mark.parametrize("body", [SLEEPS, STUBBORN], ids=["obedient", "stubborn"])
def test_a_stop_ends_the_whole_job_and_its_end_is_told(tmp_path, body):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, body))
    agent.order(1)
    pid = agent.running(1).pid
    agent.runner.stop()
    end = agent.end_of(1)
    assert (end.state, end.reason) == ("lost", STOPPED)
    assert not is_alive(pid)


def test_the_agent_waits_until_all_ends_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "STOP_SECONDS", 60.0)  # on a busy machine too
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    agent.running(1)
    agent.runner.stop()
    assert agent.states(1)[-1] == "lost"
    assert not agent.runner._jobs


def test_the_next_agent_tells_of_it_only_where_the_broker_did_not_take_it(tmp_path):
    python = interpreter(tmp_path, SLEEPS)
    for has_broker in (True, False):
        agent = StandInAgent(tmp_path, python, has_broker=has_broker)
        job = 1 + has_broker
        agent.order(job)
        agent.running(job)
        agent.runner.stop()
        end = agent.end_of(job)
    again = StandInAgent(tmp_path, python)
    again.has_decided()
    assert again.reports == [end]


def test_an_order_that_comes_after_the_stop_is_left_to_the_next_agent(tmp_path):
    python = interpreter(tmp_path, SUCCEEDS)
    agent = StandInAgent(tmp_path, python)
    agent.runner.stop()
    payload = agent.order(1)
    assert (agent.record(1), agent.reports) == (None, [])
    again = StandInAgent(tmp_path, python)
    again.runner.take_order(payload)
    assert again.end_of(1).state == "done"
    assert agent.reports == []


def test_a_job_that_still_waits_for_its_device_is_told_of_too(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS), device_wait_seconds=60)
    agent.devices = []
    agent.order(1)
    agent.has_decided()
    agent.runner.stop()
    end = agent.end_of(1)
    assert (end.state, end.reason) == ("lost", "the agent was stopped before it started the job")


def test_a_job_that_was_cancelled_before_the_stop_stays_cancelled(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, STUBBORN))
    agent.order(1)
    agent.running(1)
    agent.cancel(1)
    agent.has_decided()
    agent.runner.stop()
    assert agent.end_of(1).state == "cancelled"


def test_a_stop_without_a_job_waits_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "STOP_SECONDS", 3_600.0)
    StandInAgent(tmp_path).runner.stop()
