"""Frames of the step listener on their way to the server."""

import logging

import pytest

from training.host.steps import MAX_STEPS, StepForwarder
from training.wire import STEPS_TASK, unpack_steps

FRAME = {"v": 1, "run": "llm", "launch": "a1", "number": 3, "ended_ms": 1_700_000_000_000, "seconds": 0.5}

ABSURD = [{"ended_ms": 2**61}, {"seconds": 1e300}, {"rank": 2**31}, {"number": 2**62}, {"samples": float("inf")}]


@pytest.fixture
def sent():
    return []


@pytest.fixture
def forwarder(sent):
    return StepForwarder("node-1", lambda task, payload, on_sent=None: sent.append((task, unpack_steps(payload)[:2])))


def test_frames_become_one_message_of_steps(forwarder, sent):
    forwarder.forward([FRAME, {**FRAME, "number": 4, "loss": 1.5}])
    ((task, (host, steps)),) = sent
    assert (task, host) == (STEPS_TASK, "node-1")
    assert [(step.number, step.loss) for step in steps] == [(3, None), (4, 1.5)]


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"v": None}, {"seconds": 0}, {"number": "3"}, {"launch": "../x"}, *ABSURD]
)
def test_a_frame_that_is_no_step_is_counted_and_left_out(forwarder, sent, change):
    forwarder.forward([{**FRAME, **change}, FRAME])
    assert forwarder.invalid == 1
    assert len(sent[0][1][1]) == 1


def test_nothing_is_sent_where_nothing_was_valid(forwarder, sent):
    forwarder.forward([{}])
    assert sent == []


def test_a_message_never_holds_more_than_its_limit(forwarder, sent):
    forwarder.forward([{**FRAME, "number": number} for number in range(MAX_STEPS + 1)])
    assert [len(steps) for _, (_, steps) in sent] == [MAX_STEPS, 1]


def test_it_complains_once_a_minute_however_many_come(sent, caplog):
    clock = iter([0.0, 1.0, 59.0, 61.0])
    forwarder = StepForwarder("node-1", lambda *_, **__: None, monotonic=lambda: next(clock))
    with caplog.at_level(logging.WARNING):
        forwarder.forward([{}] * 4)
    assert [record.args[0] for record in caplog.records] == [1, 4]
