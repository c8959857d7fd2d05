"""When ticks become batches: on the sampler's own threads, and what is left at the end."""

import threading

import pytest

from telemetry.agent.batcher import Batcher
from telemetry.agent.batching import BatchMaker
from telemetry.agent.collector import Collector
from telemetry.agent.names import Names
from telemetry.agent.sampler import Sampler
from telemetry.decoding import received
from tests.telemetry.steered import SteeredBackend, wait_for

PERIOD = 0.05


class Line:
    """A batcher over a running sampler; `sent` is what it handed over."""

    def __init__(self, backend, *, every_ticks, software=dict):
        self.sent = []
        self.makers = set()
        self.sampler = Sampler(Collector([backend], PERIOD), PERIOD)
        maker = BatchMaker("gpu-a01", "0" * 32, Names("1" * 32), PERIOD)
        self.batcher = Batcher(maker, self.sampler, self.send, every_ticks=every_ticks, software=software)

    def send(self, parcel):
        self.makers.add(threading.current_thread().name)
        self.sent.append(received.unpack(parcel.body))


@pytest.fixture
def lines():
    """Return a maker of lines that are started, and stopped at the test's end."""
    made = []

    def make(backend, **options):
        line = Line(backend, **options)
        made.append(line)
        line.batcher.start()
        line.sampler.start()
        return line

    yield make
    for line in made:
        line.sampler.stop()


def test_the_first_tick_is_a_batch_and_then_each_few(lines):
    line = lines(SteeredBackend("a"), every_ticks=4)
    wait_for(lambda: len(line.sent) >= 4)

    n_ticks = [len(batch.times_ms) for batch in line.sent]
    assert n_ticks[0] == 1
    assert all(2 <= n <= 5 for n in n_ticks[1:])  # a machine under load may lose a tick


def test_it_has_no_thread_of_its_own(lines):
    line = lines(SteeredBackend("a"), every_ticks=1)
    wait_for(lambda: len(line.sent) >= 3)

    assert line.makers == {"sample"}


def test_sequences_have_no_gap_and_no_double(lines):
    line = lines(SteeredBackend("a"), every_ticks=1)
    wait_for(lambda: len(line.sent) >= 5)

    assert [batch.sequence for batch in line.sent[:5]] == [0, 1, 2, 3, 4]


def test_what_is_left_at_the_end_is_handed_over(lines):
    line = lines(SteeredBackend("a"), every_ticks=1000)
    wait_for(lambda: len(line.sampler._ticks) >= 3)
    line.sampler.stop()
    line.batcher.stop()

    assert len(line.sent) == 2
    assert len(line.sent[-1].times_ms) >= 3


def test_the_jobs_software_stands_beside_the_drivers(lines):
    line = lines(SteeredBackend("a"), every_ticks=1, software=lambda: {"torch": "2.9.1"})
    wait_for(lambda: line.sent)

    assert line.sent[0].software == {"a": "1.0", "torch": "2.9.1"}


def test_a_batch_that_cannot_be_made_does_not_end_the_sampling(lines):
    asked = []

    def software():
        asked.append(1)
        if len(asked) < 3:
            raise ValueError("an answer that nobody expected")
        return {}

    line = lines(SteeredBackend("a"), every_ticks=1, software=software)

    wait_for(lambda: len(line.sent) >= 2)
