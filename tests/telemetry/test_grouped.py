"""Messages that are handled many at a time: none is acknowledged before all of its group are stored."""

from types import SimpleNamespace

import pytest

from telemetry.broker.grouped import Collector
from telemetry.broker.not_now import NotNow as NotNowItself


class NotNow(Exception):
    pass


class Message:
    """One of the broker's; `payload` is what Celery's protocol has: arguments, named arguments, the rest."""

    def __init__(self, value):
        self.payload = ([value], {}, {})
        self.channel, self.state = None, "waiting"

    def ack_log_error(self, *_):
        self.state = "acknowledged"

    def reject_log_error(self, *_):
        self.state = "rejected"


class Worker:
    """A worker's loop as far as the collector sees it: its clock goes on when told."""

    def __init__(self, handle, most=3, prefetched=100):
        self.handled, self.due = [], []
        consumer = SimpleNamespace(
            qos=SimpleNamespace(value=prefetched),
            connection_errors=(OSError,),
            timer=SimpleNamespace(call_after=self._call_after),
        )
        task = SimpleNamespace(
            name="t", most_messages=most, longest_wait_seconds=0.3, not_now=(NotNow,), handle=self._handle
        )
        self._do, self._collect = handle, Collector(task, None, consumer)

    def _call_after(self, seconds, do):
        entry = (seconds, do)
        self.due.append(entry)
        return SimpleNamespace(cancel=lambda: self.due.remove(entry))

    def _handle(self, payloads):
        self._do(payloads)
        self.handled.append(list(payloads))

    def send(self, *messages):
        for message in messages:
            self._collect(message, None, None, None)
        return [message.state for message in messages]

    def wait(self):
        ((seconds, do),) = self.due
        self.due = []
        do()
        return seconds


def test_a_group_is_handled_when_it_is_full():
    worker = Worker(lambda _: None)

    assert worker.send(*map(Message, "abcd")) == ["acknowledged"] * 3 + ["waiting"]
    assert worker.handled == [["a", "b", "c"]]


def test_what_does_not_fill_a_group_is_handled_after_a_short_time():
    worker, message = Worker(lambda _: None), Message("a")
    worker.send(message)

    assert (worker.handled, worker.wait(), worker.handled) == ([["a"]], 0.3, [["a"]])
    assert message.state == "acknowledged"


def test_no_more_is_waited_for_than_may_be_prefetched():
    worker = Worker(lambda _: None, prefetched=2)

    assert worker.send(*map(Message, "ab")) == ["acknowledged"] * 2


def test_while_the_database_is_away_nothing_is_acknowledged_and_nothing_lost():
    answers = [NotNow("away"), NotNow("away"), None]

    def handle(_):
        if error := answers.pop(0):
            raise error

    worker, messages = Worker(handle), [Message(n) for n in range(3)]
    assert worker.send(*messages) == ["waiting"] * 3
    assert [worker.wait(), worker.wait()] == [0.5, 1.0]

    assert worker.handled == [[0, 1, 2]]
    assert {message.state for message in messages} == {"acknowledged"}


def test_what_says_not_now_of_itself_waits_too():
    answers = [NotNowItself("the clock"), None]

    def handle(_):
        if error := answers.pop(0):
            raise error

    worker, messages = Worker(handle), [Message(n) for n in range(3)]
    assert worker.send(*messages) == ["waiting"] * 3
    worker.wait()

    assert worker.handled == [[0, 1, 2]]


def test_one_message_that_cannot_be_handled_costs_the_others_nothing(caplog):
    def handle(payloads):
        if "bad" in payloads:
            raise ValueError(payloads)

    worker = Worker(handle)
    worker.send(*map(Message, ["a", "bad", "c"]))

    assert worker.handled == [["a"], ["c"]]
    assert "a message to t was dropped" in caplog.text


def test_a_broker_that_is_away_when_the_time_is_over_leaves_no_message_waiting():
    def away():
        raise OSError("away")

    worker, messages = Worker(lambda _: None), [Message(n) for n in range(2)]
    messages[0].channel = SimpleNamespace(take_waiting=away)
    worker.send(messages[0])
    with pytest.raises(OSError, match="away"):
        worker.wait()
    worker.send(messages[1])
    worker.wait()

    assert worker.handled == [[0], [1]]


@pytest.mark.parametrize("payload", [None, [], ([], {}, {}), (["a", "b"], {}, {})])
def test_a_message_that_is_no_call_with_one_argument_is_dropped(payload):
    worker, message = Worker(lambda _: None), Message("")
    message.payload = payload

    assert worker.send(message) == ["rejected"]
    assert worker.due == []
