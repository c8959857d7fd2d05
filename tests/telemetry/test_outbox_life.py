"""Spool and outbox over a whole life, in any order of what may happen: nothing is lost, and nothing named twice."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telemetry.agent.names import Parcel
from telemetry.agent.outbox import (
    Outbox,
)
from telemetry.agent.spool import Spool
from telemetry.decoding import received
from telemetry.message import wire
from tests.telemetry.batches import batch
from tests.telemetry.spooling import HOST, MACHINE, waiting


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
