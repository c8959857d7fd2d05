"""A worker that waits for its broker is woken by a signal, through Celery's own loop."""

import os
import signal
import threading
import time

import pytest
from kombu.asynchronous import Hub

from telemetry.agent.waking import Waking

POLL_SECONDS = 10.0  # the longest that the loop sleeps


class Parent:
    steps = ()


@pytest.fixture
def hub():
    hub = Hub()
    hub.timer.max_interval = POLL_SECONDS
    hub.call_later(60, lambda: None)
    yield hub
    hub.close()
    signal.set_wakeup_fd(-1)


@pytest.fixture
def heard():
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("n_connections", [1, 2])
def test_a_signal_ends_its_sleep(hub, heard, n_connections):
    waking = Waking(Parent())
    for _ in range(n_connections):
        hub.reset()  # as Celery does with a connection that is lost
        waking.register_with_event_loop(None, hub)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()

    began = time.monotonic()
    hub.run_once()

    assert heard == [signal.SIGUSR1]
    assert time.monotonic() - began < POLL_SECONDS / 2
