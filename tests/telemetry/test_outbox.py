"""The outbox: what is sent when, fresh batches and those that wait from before."""

import pytest

from telemetry.agent.outbox import (
    FIRST_WINDOW,
    LONGEST_SECONDS,
    MOST_UNANSWERED,
    PROBE_SECONDS,
    RECONNECT_SECONDS,
    Outbox,
)
from telemetry.broker.transport import VISIBILITY_TIMEOUT_SECONDS
from tests.telemetry.spooling import HOST, MACHINE, Clock, opened_in, parcel, waiting


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    with opened_in(tmp_path, clock) as make:
        yield make


class Box:
    """An outbox on a clock that the test holds; `sent` are the sequences that the broker had."""

    def __init__(self, spool, **options):
        self.now = 1000.0
        self.names = spool.names(HOST, MACHINE)
        self.outbox = Outbox(spool, clock=lambda: self.now, **options)
        self.sent = []

    def make(self, n=1):
        for _ in range(n):
            self.outbox.put(parcel(self.names, body=b"x"))
        self.outbox.store()

    def send(self, seconds=0.0):
        """Send all that is to be sent within these seconds."""
        end = self.now + seconds
        while True:
            while found := self.outbox.next():
                self.outbox.sent(found)
                self.sent.append(found.sequence)
            wait = self.outbox.wait_seconds()
            if wait is None or self.now + wait > end:
                break
            self.now += wait + 1e-6
        self.now = end

    def take(self):
        """Return what was sent since the last time."""
        taken, self.sent = self.sent, []
        return taken

    def acknowledge(self, *ranges):
        self.outbox.acknowledge(self.names.epoch, ranges)
        self.outbox.store()


def test_a_fresh_batch_is_sent_at_once_and_stays_until_it_is_acknowledged(opened):
    box = Box(spool := opened())
    box.make()
    box.send()
    assert (box.take(), spool.n_batches) == ([0], 1)

    box.acknowledge((0, 0))
    box.send(100_000)

    assert (box.take(), spool.n_batches) == ([], 0)
    assert box.outbox.wait_seconds() is None


def test_what_was_answered_leaves_nothing_in_memory(opened):
    box = Box(opened())
    for number in range(1000):
        box.make()
        box.send(0.5)
        box.acknowledge((number, number))

    assert len(box.outbox._due) < 100


def test_what_waits_from_before_follows_in_order_and_fresh_ones_overtake_it(opened):
    box = Box(opened())
    box.outbox.disconnected()
    box.make(30)
    box.outbox.disconnected()
    box.outbox.connected()
    box.send(4)
    before = box.take()
    box.make()
    box.send()

    assert before == list(range(FIRST_WINDOW))
    assert box.take()[0] == 30


def test_the_window_grows_while_the_server_acknowledges_soon(opened):
    box = Box(opened())
    box.make(200)
    box.outbox.disconnected()
    box.outbox.connected()
    seen = []
    for _ in range(4):
        box.send(15)
        seen.append(len(box.sent))
        box.acknowledge((0, max(box.sent)))

    assert seen == [8, 24, 56, 120]


def test_it_sends_at_most_twenty_a_second_of_what_waits(opened):
    box = Box(opened())
    box.make(150)
    box.outbox.disconnected()
    box.outbox._window = 1000.0
    began = box.now
    box.send(1.0)

    assert 8 <= len(box.sent) <= 20 * (box.now - began) + 1


def test_a_server_that_is_down_does_not_have_the_broker_filled(opened):
    box = Box(spool := opened())
    for _ in range(400):
        box.make()
        box.send(5)

    sent = box.take()
    assert MOST_UNANSWERED <= len(set(sent)) <= MOST_UNANSWERED + 400 * 5 / PROBE_SECONDS
    assert len(sent) < 6 * MOST_UNANSWERED  # each again after twice the time
    assert spool.n_batches == 400


def test_what_stays_unanswered_is_sent_again_after_longer_than_the_broker_would(opened):
    box = Box(opened())
    box.make()
    box.send(120)
    assert box.take() == [0]

    box.send(400)
    assert box.take() == [0]

    box.send(24 * 3600)
    assert 24 * 3600 / LONGEST_SECONDS / 2 <= len(box.take()) <= 30


def test_after_a_reconnect_what_was_sent_is_sent_again_unless_it_is_acknowledged_meanwhile(opened):
    box = Box(opened())
    box.make(3)
    box.send()
    box.take()
    box.outbox.disconnected()
    box.outbox.connected()
    box.send(20)
    box.acknowledge((0, 1))
    box.send(60)

    assert box.take() == [2]


def test_what_the_server_passed_over_is_sent_again_soon_though_nobody_noticed_a_reconnect(opened):
    box = Box(spool := opened())
    for _ in range(3):
        box.make()
        box.send(1)
    box.acknowledge((0, 0), (2, 2))
    box.take()

    box.send(RECONNECT_SECONDS - 3)
    assert box.take() == []  # it may be on its way, with another worker
    box.send(RECONNECT_SECONDS + 3)
    assert box.take() == [1]

    box.acknowledge((0, 2))
    assert spool.n_batches == 0


def test_what_was_sent_after_all_that_is_answered_has_time(opened):
    box = Box(opened())
    for _ in range(3):
        box.make()
        box.send(1)
    box.acknowledge((0, 1))
    box.take()

    box.send(VISIBILITY_TIMEOUT_SECONDS)
    assert box.take() == []


def test_what_the_server_refuses_keeps_what_waits_behind_it_no_longer_than_it_takes_to_know(opened):
    box = Box(spool := opened())
    box.make(MOST_UNANSWERED + 60)
    box.outbox.disconnected()
    box.outbox.connected()
    for _ in range(360):
        box.make()
        box.send(15)
        box.acknowledge(*[(number, number) for number in sorted(set(box.sent)) if number >= MOST_UNANSWERED])

    assert [each.sequence for each in waiting(spool)] == list(range(MOST_UNANSWERED))


def test_what_waits_behind_what_was_refused_is_sent_where_nothing_fresh_is_made(opened):
    box = Box(spool := opened())
    box.make(60)
    box.outbox.disconnected()
    box.outbox.connected()
    box.outbox.is_eager = True
    for _ in range(360):
        box.send(15)
        box.acknowledge(*[(number, number) for number in sorted(set(box.sent)) if number > FIRST_WINDOW])

    assert [each.sequence for each in waiting(spool)] == list(range(FIRST_WINDOW + 1))


def test_a_host_whose_every_batch_was_refused_sends_again_once_the_server_takes_new_ones(opened):
    box = Box(spool := opened())
    for _ in range(2 * MOST_UNANSWERED):
        box.make()
        box.send(5)
    for _ in range(720):
        box.make()
        box.send(15)
        taken = [(number, number) for number in sorted(set(box.sent)) if number >= 2 * MOST_UNANSWERED]
        box.acknowledge(*taken)

    assert [each.sequence for each in waiting(spool)] == list(range(2 * MOST_UNANSWERED))


def test_what_was_refused_is_sent_on_but_seldom(opened):
    box = Box(opened())
    box.make()
    for _ in range(4 * 1440):
        box.make()
        box.send(60)
        box.acknowledge((1, max(box.sent)))

    assert 8 <= box.sent.count(0) <= 12


def test_at_the_end_only_what_is_fresh_is_sent(opened):
    box = Box(opened())
    box.make(5)
    box.outbox.disconnected()
    box.make(1)

    assert box.outbox.next(is_last=True).sequence == 5
    box.outbox.sent(box.outbox.next(is_last=True))
    assert box.outbox.next(is_last=True) is None


def test_it_is_synced_while_the_spool_may_have_the_only_copy(opened):
    box = Box(spool := opened())
    box.make()
    assert not spool._is_synced

    box.outbox.disconnected()
    box.make()
    assert spool._is_synced

    box.outbox.connected()
    box.send(5)
    box.acknowledge((0, 1))
    box.make()
    assert not spool._is_synced
