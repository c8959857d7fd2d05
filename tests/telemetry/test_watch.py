"""What a thread's watch says of its calls while another thread looks at it."""

import threading

from telemetry.agent.backends.rounds import Gate, PowerRound, Turn
from telemetry.agent.watch import Held, Watch
from tests.telemetry.steered import Hang, wait_for


class Meeting(Held):
    """A device is held at the moment in which its call comes back and the next device's begins."""

    def __init__(self, first, second):
        super().__init__("a")
        self._first, self._second = first, second

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._first.end()
        wait_for(lambda: self._second.callers)


def test_who_relieves_a_device_whose_call_comes_back_leaves_the_next_one_its_own():
    first, second = Hang(lambda: 0), Hang(lambda: 0)
    held, watch, answers = Meeting(first, second), Watch(lambda: 0.0), []
    thread = threading.Thread(
        target=lambda: answers.append(watch.go_round(held, of(first, second), 0.0, 1.0)), daemon=True
    )
    thread.start()
    wait_for(lambda: first.callers)

    delay = watch.relieve(0.0)
    second.end()
    thread.join(30)

    assert (delay, held.calls()) == (None, [])
    assert answers == [([0, 0], 0.0)]


def of(*asks):
    turns = [Turn(f"GPU-{n}", [ask]) for n, ask in enumerate(asks, 1)]
    return PowerRound(Gate(), 0, turns, [], lambda raw: (), (), (), None)
