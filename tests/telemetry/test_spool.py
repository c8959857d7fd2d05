"""The spool and the outbox: what a host made is sent, kept until it is acknowledged, and never named twice."""

import ctypes
import logging
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telemetry import received, wire
from telemetry.agent import membership
from telemetry.agent import spool as spools
from telemetry.agent.config import ConfigInvalid, read_config
from telemetry.agent.names import Parcel
from telemetry.agent.outbox import (
    FIRST_WINDOW,
    LONGEST_SECONDS,
    MOST_UNANSWERED,
    PROBE_SECONDS,
    RECONNECT_SECONDS,
    Outbox,
)
from telemetry.agent.spool import ASIDE, FILE, HEAL_SECONDS, TEND_SECONDS, Spool
from telemetry.agent.spool_file import SpoolFailed, SpoolFile
from telemetry.transport import VISIBILITY_TIMEOUT_SECONDS
from tests.telemetry.batches import batch

HOST, MACHINE = "gpu-a01", "a" * 32


class Clock:
    """`now` goes on with the time; `set_by` is what somebody set the wall clock by."""

    def __init__(self):
        self.now, self.set_by = 1_800_000_000.0, 0.0

    def __call__(self):
        return self.now + self.set_by

    def steady(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    """Return a maker of spools over the same directory."""
    made = []

    def make(**options):
        made.append(Spool(tmp_path, clock=clock, steady=clock.steady, **options))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def parcel(names, at_ms=1000, body=None):
    epoch, sequence = names.claim()
    body = body or wire.pack(batch([at_ms], {"power_draw_watts": [300.0]}, host=HOST, epoch=epoch, sequence=sequence))
    return Parcel(HOST, epoch, sequence, body)


def named(parcel):
    """The name that stands in the bytes, and when the batch was sampled."""
    found = received.unpack(parcel.body)
    assert (found.epoch, found.sequence) == (parcel.epoch, parcel.sequence)
    return found.epoch, found.sequence, found.times_ms[0]


def waiting(spool):
    return [each.parcel for each in spool.after(0, 10_000)]


def used_bytes():
    """Return what the process has of the C library's heap (mallinfo2(3): ten sizes, the eighth is what is in use)."""
    sizes = type("Sizes", (ctypes.Structure,), {"_fields_": [("sizes", ctypes.c_size_t * 10)]})
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = sizes
    return ask().sizes[7]


def test_what_is_not_acknowledged_is_there_after_a_restart_and_sequences_go_on(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    first = [parcel(names) for _ in range(3)]
    spool.add(first)
    spool.remove(names.epoch, [(0, 0)])
    spool.close()

    again = opened()
    names = again.names(HOST, MACHINE)

    assert waiting(again) == first[1:]
    assert names.claim() == (first[0].epoch, 3)


def test_sequences_go_on_where_all_was_acknowledged(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    spool.remove(names.epoch, [(0, 0)])
    spool.close()

    assert opened().names(HOST, MACHINE).claim() == (names.epoch, 1)


def test_after_a_reboot_the_numbers_go_on_behind_all_that_a_power_cut_may_have_undone(opened):
    spool = opened(boot="one")
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    spool.close()

    epoch, sequence = opened(boot="two").names(HOST, MACHINE).claim()

    assert epoch == names.epoch
    assert sequence >= 1_000_000


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


def test_the_clocks_segment_is_kept_over_a_restart(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    names.segment, names.offset = 4, 123.5
    spool.add([parcel(names)])
    spool.close()

    found = opened().names(HOST, MACHINE)

    assert (found.segment, found.offset) == (4, 123.5)


def test_the_oldest_are_dropped_where_the_bound_in_bytes_is_reached(opened):
    spool = opened(limit_bytes=400_000)
    names = spool.names(HOST, MACHINE)
    made = [parcel(names, body=bytes(3000)) for _ in range(300)]
    for each in made:
        spool.add([each])

    kept = waiting(spool)
    assert kept == made[-len(kept) :]
    assert spool.n_dropped == 300 - len(kept) > 0
    assert spool.n_bytes <= 400_000


def test_what_is_too_old_is_dropped_and_counted(opened, clock):
    spool = opened(limit_seconds=3600)
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    clock.now += 3000
    young = parcel(names)
    spool.add([young])
    clock.now += 1000

    spool.tend()

    assert waiting(spool) == [young]
    assert spool.n_dropped == 1


@pytest.mark.parametrize("days", [8, -8, 20_000])
def test_a_wall_clock_that_is_set_makes_nothing_older_or_younger(opened, clock, days):
    spool = opened(limit_seconds=3600)
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    clock.now += 3000
    clock.set_by = days * 86_400.0
    young = parcel(names)
    spool.add([young])
    clock.now += 500
    spool.tend()
    assert spool.n_dropped == 0

    clock.now += 500
    spool.tend()

    assert waiting(spool) == [young]


def test_nothing_is_dropped_where_the_clock_is_set_while_the_disk_is_full(opened, clock, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, 1000)])
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    spool.add([parcel(names, 2000)])
    clock.set_by = 8 * 86_400.0
    spool.tend()
    mended()
    for _ in range(2):
        clock.now += TEND_SECONDS
        spool.tend()

    assert [named(each)[2] for each in waiting(spool)] == [1000, 2000]
    assert (spool.n_dropped, spool.is_failed) == (0, False)


def test_a_clock_that_was_wrong_at_the_start_keeps_nothing_from_before_for_years(opened, clock):
    spool = opened(limit_seconds=3600)
    spool.add([parcel(spool.names(HOST, MACHINE))])
    spool.close()
    clock.set_by = -1000 * 86_400.0
    spool = opened(limit_seconds=3600)
    spool.names(HOST, MACHINE)
    clock.set_by = 0.0
    spool.tend()
    clock.now += 3700

    spool.tend()

    assert (spool.n_batches, spool.n_dropped) == (0, 1)


def test_the_file_is_small_again_when_it_is_empty(opened, tmp_path):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, body=bytes(4000)) for _ in range(2000)])
    spool.close()
    before = (tmp_path / FILE).stat().st_size

    spool = opened()
    spool.names(HOST, MACHINE)
    spool.remove(names.epoch, [(0, 1999)])
    spool.close()

    assert (tmp_path / FILE).stat().st_size < before / 5


def test_the_memory_that_an_outage_took_is_free_a_minute_later(opened, clock):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, body=bytes(8_000)) for _ in range(500)])
    before = used_bytes()

    clock.now += TEND_SECONDS
    spool.tend()

    assert used_bytes() < before - 1e6


def test_an_acknowledgement_leaves_the_holes(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names) for _ in range(10)])

    assert spool.remove(names.epoch, [(0, 3), (6, 6), (9, 9)]) == 6
    assert [each.sequence for each in waiting(spool)] == [4, 5, 7, 8]


def test_a_copy_of_the_disk_on_another_machine_names_what_waits_anew(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, at_ms) for at_ms in (1000, 2000)])
    spool.close()

    copy = opened()
    other = copy.names(HOST, "b" * 32)

    assert other.epoch != names.epoch
    assert [named(each) for each in waiting(copy)] == [(other.epoch, 0, 1000), (other.epoch, 1, 2000)]
    assert other.claim() == (other.epoch, 2)


def test_an_acknowledgement_of_what_was_never_made_begins_another_epoch_and_loses_nothing(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    before, outbox = names.epoch, Outbox(spool)
    outbox.put(parcel(names, 1000))
    outbox.store()
    outbox.sent(outbox.next())

    outbox.acknowledge(before, [(0, 50)])
    outbox.store()

    assert names.epoch != before
    assert [named(each) for each in waiting(spool)] == [(names.epoch, 0, 1000)]


@pytest.mark.parametrize("content", [b"no database at all" * 500, b""])
def test_a_file_that_is_no_spool_is_put_aside(opened, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)

    spool = opened()
    spool.add([parcel(spool.names(HOST, MACHINE))])

    assert spool.n_batches == 1
    assert not spool.is_failed
    assert (tmp_path / ASIDE).exists() == bool(content)


def test_a_file_that_breaks_while_it_is_used_is_put_aside_and_the_agent_goes_on(opened, tmp_path, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    lost = names.epoch
    broken(monkeypatch, sqlite3.SQLITE_CORRUPT, times=1)

    spool.add([parcel(names, 2000)])

    assert [named(each) for each in waiting(spool)] == [(names.epoch, 0, 2000)]
    assert names.epoch != lost
    assert (tmp_path / ASIDE).exists()
    assert (spool.n_dropped, spool.is_failed) == (1, False)


def test_a_full_disk_leaves_batches_in_memory_until_there_is_room(opened, clock, monkeypatch, caplog):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, 1000)])
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    with caplog.at_level(logging.ERROR):
        for at_ms in (2000, 3000):
            spool.add([parcel(names, at_ms)])
            clock.now += HEAL_SECONDS
            spool.tend()
    assert spool.is_failed
    assert [named(each)[2] for each in waiting(spool)] == [2000, 3000]
    assert len(caplog.records) == 1

    mended()
    clock.now += HEAL_SECONDS
    spool.tend()

    assert not spool.is_failed
    assert [named(each)[2] for each in waiting(spool)] == [1000, 2000, 3000]


def test_names_that_a_full_disk_could_not_note_are_not_given_again(opened, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    spool.add([parcel(names)])
    (sent,) = waiting(spool)
    mended()
    spool.close()

    again = opened().names(HOST, MACHINE)

    assert again.claim() != (sent.epoch, sent.sequence)


def test_the_memory_is_bounded_too(opened, monkeypatch):
    monkeypatch.setattr(spools, "MEMORY_BYTES", 400_000)
    spool = opened()
    names = spool.names(HOST, MACHINE)
    broken(monkeypatch, sqlite3.SQLITE_FULL)

    for _ in range(300):
        spool.add([parcel(names, body=wire.pack(batch([1000], {}, software={"x": "y" * 190}, epoch=names.epoch)))])

    assert spool.n_bytes <= 400_000


def test_a_file_that_cannot_be_measured_gives_way_to_memory_which_is_measured(opened, monkeypatch, caplog):
    spool = opened()
    spool.add([parcel(spool.names(HOST, MACHINE))])
    broken(monkeypatch, sqlite3.SQLITE_IOERR, call="n_bytes")

    spool.remove("of nobody", [(0, 0)])

    assert spool.is_failed
    assert spool.n_bytes > 0
    assert "memory fails" not in caplog.text


def broken(monkeypatch, code, times=10**9, call="add"):
    """Have the file's next calls fail; returns what mends it. The store in memory is none of it."""
    left = [times]
    well = getattr(SpoolFile, call)

    def failing(self, *arguments):
        if left[0] > 0 and not is_memory(self):
            left[0] -= 1
            error = sqlite3.OperationalError("made by the test")
            error.sqlite_errorcode = code
            raise SpoolFailed(error)
        return well(self, *arguments)

    def is_memory(file):
        try:
            return not file._db.execute("PRAGMA database_list").fetchone()[2]
        except sqlite3.ProgrammingError:  # closed: it was the file
            return False

    monkeypatch.setattr(SpoolFile, call, failing)

    def mend():
        left[0] = 0

    return mend


@pytest.mark.parametrize(
    ("name", "raw"), [("STEPWATT_SPOOL_BYTES", "1000"), ("STEPWATT_SPOOL_BYTES", "1GB"), ("STEPWATT_SPOOL_DAYS", "0")]
)
def test_a_bound_that_makes_no_sense_is_refused_by_its_name(tmp_path, name, raw):
    membership.enrol_here(tmp_path / "agent", HOST, "redis://127.0.0.1:1/0", bytes(32))

    with pytest.raises(ConfigInvalid, match=name):
        read_config({"STEPWATT_DATA_DIR": str(tmp_path), name: raw})


def test_the_bounds_are_settings(tmp_path):
    membership.enrol_here(tmp_path / "agent", HOST, "redis://127.0.0.1:1/0", bytes(32))
    given = {"STEPWATT_SPOOL_BYTES": "10000000", "STEPWATT_SPOOL_DAYS": "0.5"}

    config = read_config({"STEPWATT_DATA_DIR": str(tmp_path), **given})

    assert (config.spool_bytes, config.spool_seconds) == (10_000_000, 43_200)


# What is sent when ------------------------------------------------------------------------------------------------


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


# Any order of all of it -------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """An agent, its broker and its server: batches are made, sent, lost, acknowledged, and the agent is killed."""

    @initialize(directory=st.uuids())
    def begin(self, directory):
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name)
        self.now, self.made, self.stored, self.broker = 0.0, 0, {}, []
        self.start()

    def start(self):
        self.spool = Spool(self.directory)
        self.names = self.spool.names(HOST, MACHINE)
        self.outbox = Outbox(self.spool, clock=lambda: self.now)
        self.outbox.connected()

    @rule(n=st.integers(1, 5))
    def make(self, n):
        for _ in range(n):
            epoch, sequence = self.names.claim()
            self.made += 1
            self.outbox.put(Parcel(HOST, epoch, sequence, str(self.made).encode()))
        self.outbox.store()

    @rule(n=st.integers(1, 20), seconds=st.sampled_from([0.0, 1.0, 400.0]))
    def send(self, n, seconds):
        self.now += seconds
        for _ in range(n):
            if (found := self.outbox.next()) is None:
                break
            self.outbox.sent(found)
            self.broker.append(found)

    @rule()
    def lose_the_broker(self):
        self.broker.clear()
        self.outbox.disconnected()
        self.outbox.connected()

    @rule(data=st.data())
    @precondition(lambda self: self.broker)
    def store_some(self, data):
        n = data.draw(st.integers(1, len(self.broker)))
        for found in data.draw(st.permutations(self.broker))[:n]:
            self.broker.remove(found)
            name = found.epoch, found.sequence
            assert self.stored.setdefault(name, found.body) == found.body, "a name was given twice"

    @rule()
    def acknowledge(self):
        for epoch in {epoch for epoch, _ in self.stored}:
            numbers = sorted(sequence for of, sequence in self.stored if of == epoch)
            self.outbox.acknowledge(epoch, [(number, number) for number in numbers])
        self.outbox.store()

    @rule()
    def crash(self):
        self.spool.close()
        self.start()

    @invariant()
    def nothing_is_lost(self):
        if hasattr(self, "spool"):
            kept = {int(each.body) for each in waiting(self.spool)} | {int(body) for body in self.stored.values()}
            assert kept == set(range(1, self.made + 1))

    def teardown(self):
        if not hasattr(self, "spool"):
            return
        for _ in range(1000):
            self.send(20, 400.0)
            for found in self.broker:
                assert self.stored.setdefault((found.epoch, found.sequence), found.body) == found.body
            self.broker.clear()
            self.acknowledge()
            if self.spool.n_batches == 0:
                break
        assert len(self.stored) == self.made
        self.spool.close()
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(at_ms=st.integers(1000, 10**12), sequence=st.integers(0, 2**40))
def test_a_batch_under_another_name_is_the_same_batch(at_ms, sequence):
    sent = batch([at_ms, at_ms + 1000], {"power_draw_watts": [300.0, None]}, absent={}, software={"driver": "1"})

    found = received.unpack(wire.renamed(wire.pack(sent), "c" * 32, sequence))

    before = received.unpack(wire.pack(sent))
    assert (found.epoch, found.sequence) == ("c" * 32, sequence)
    assert (found.columns, found.times_ms, found.devices) == (before.columns, before.times_ms, before.devices)
