"""A disk at the host that is full: who launched is told at once what, where, and what to do. The kernel's own errors."""

import errno
import os
import re
import time
from pathlib import Path

import pytest

from telemetry.agent.full_disk import why_not_written
from telemetry.message.envelope import seal_order
from tests.training.agents import HOST, SERVER_KEY, SUCCEEDS, TINY, StandInAgent, interpreter
from training.host.tasks import JobDesk
from training.message.wire import CANCEL_TASK, START_TASK, JobOrder, pack, pack_cancel

FULL = re.compile(
    r"the disk is full: \S+ needs [\d,]+ bytes, [\d,]+ bytes are free on /\S*; free some space there, then launch again"
)


@pytest.fixture
def agent(tmp_path) -> StandInAgent:
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    agent.has_decided()
    return agent


@pytest.fixture
def desk(agent) -> JobDesk:
    desk = JobDesk(agent.context)
    desk._runner = agent.runner
    desk._takers = {START_TASK: agent.runner.take_order, CANCEL_TASK: agent.runner.take_cancel}
    return desk


def fill(path: Path) -> None:
    """Have every write to the file find no room: the kernel's device for that stands in its place."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


def sealed(job: int) -> bytes:
    expires_ms = int(time.time() * 1000) + 60_000
    body = pack(JobOrder(job, "0a1b2c", HOST, "gpt-train", TINY, "cpu-0001", expires_ms, 60))
    return seal_order(SERVER_KEY, START_TASK, HOST, body, expires_ms)


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_order_that_cannot_be_noted_is_answered_at_once(agent, desk, tmp_path):
    fill(tmp_path / "orders.seen")

    desk.take(START_TASK, sealed(1), is_redelivery=False)

    end = agent.end_of(1, seconds=10)
    assert (end.state, agent.record(1)) == ("failed", None)
    assert FULL.fullmatch(end.reason), end.reason
    assert str(tmp_path / "orders.seen") in end.reason


def test_one_that_comes_again_when_there_is_room_is_carried_out(agent, desk, tmp_path):
    fill(tmp_path / "orders.seen")
    payload = sealed(1)
    desk.take(START_TASK, payload, is_redelivery=False)
    assert agent.end_of(1).state == "failed"
    (tmp_path / "orders.seen").unlink()

    desk.take(START_TASK, payload, is_redelivery=True)  # the very message that was answered starts nothing any more
    desk.take(START_TASK, sealed(2), is_redelivery=False)

    assert agent.end_of(2).state == "done"
    assert agent.states(1) == ["failed"]


def test_a_cancel_that_cannot_be_noted_is_no_answer_to_anybody(agent, desk, tmp_path):
    fill(tmp_path / "orders.seen")
    body = pack_cancel(1, "0a1b2c", HOST)

    desk.take(
        CANCEL_TASK,
        seal_order(SERVER_KEY, CANCEL_TASK, HOST, body, int(time.time() * 1000) + 60_000),
        is_redelivery=False,
    )

    agent.has_decided()
    assert agent.reports == []


def test_a_job_whose_record_finds_no_room_is_answered_at_once(agent, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_room)

    agent.order(1)

    end = agent.end_of(1, seconds=10)
    assert (end.state, bool(FULL.fullmatch(end.reason))) == ("failed", True), end.reason


def test_a_disk_that_fills_up_while_the_job_starts_ends_it_with_that_reason(agent, monkeypatch):
    update = agent.runner._records.update
    monkeypatch.setattr(agent.runner._records, "update", lambda job, **changes: no_room() if changes else update(job))

    agent.order(1)

    end = agent.end_of(1)
    assert (end.state, bool(FULL.fullmatch(end.reason))) == ("failed", True), end.reason


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "cannot be written (Permission denied)"),
        (errno.EDQUOT, "the disk quota of the agent's user is used up: "),
        (errno.ENOSPC, "the disk is full: "),
    ],
)
def test_the_reason_names_the_file_and_what_it_met(tmp_path, number, words):
    error = OSError(number, os.strerror(number))

    found = why_not_written(tmp_path / "not" / "there" / "1.json", error, needed_bytes=10**7)

    assert words in found
    assert str(tmp_path / "not" / "there" / "1.json") in found
    assert ("needs 10,000,000 bytes" in found) is (number != errno.EACCES)
