"""What is done at the agent's end begins with the signal, is done once, and is waited for."""

from collections.abc import Iterator
from threading import Event

import pytest
from celery.signals import worker_shutting_down

from telemetry.agent.farewell import Farewell


@pytest.fixture
def done() -> Event:
    return Event()


@pytest.fixture
def farewell(done) -> Iterator[Farewell]:
    made = Farewell()
    made.register(done.set)
    made.start()
    yield made
    made.stop()


def test_it_begins_when_the_worker_is_told_to_end(farewell, done):
    worker_shutting_down.send(sender="agent@a", sig="SIGTERM", how="Warm", exitcode=0)
    assert done.wait(60)


def test_it_is_done_once_however_often_the_worker_is_told_and_before_the_stop_is_over():
    acts: list[str] = []
    farewell = Farewell()
    farewell.register(lambda: acts.append("jobs"))
    farewell.start()
    for _ in range(3):
        worker_shutting_down.send(sender="agent@a", sig="SIGTERM", how="Warm", exitcode=0)
    farewell.stop()
    farewell.stop()
    assert acts == ["jobs"]
