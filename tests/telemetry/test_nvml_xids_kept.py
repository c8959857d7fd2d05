"""XIDs that were counted are told when the board or the driver that reported them is gone (tests/nvml_stub)."""

import time

import pytest

from telemetry.agent.collector import Collector
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import reasons_of, uuid_of
from tests.telemetry.steered import wait_for

AWAY, RELEASED = AbsentReason.DRIVER_AWAY, AbsentReason.RELEASED


def xids(readings):
    return readings["xid_last"], readings["xid_errors_total"]


@pytest.fixture
def told(opened, nvml_stub):
    """The boards after two XIDs of the fourth, which happened once: the control file may be written anew."""
    wait_for(lambda: xids(opened.read(3, seconds=0)) == (0, 0))  # before it listens it hears nothing
    nvml_stub.write([f"xid 3 79 {time.monotonic_ns()} 2"])
    wait_for(lambda: xids(opened.read(3, seconds=0)) == (79, 2))
    return opened


class Agent:
    """What reads a backend tick by tick, at the backend's own clock."""

    def __init__(self, rig):
        self.clock = rig.clock
        self.collector = Collector([rig.backend], 1.0, clock=rig.clock)
        self.number = 0

    def tick(self):
        self.clock.seconds += 1
        self.number += 1
        return self.collector.sample(self.number, self.clock.seconds, 0.0).readings


@pytest.fixture
def agent(rig, nvml_stub):
    agent = Agent(rig)
    wait_for(lambda: xids(agent.tick()[uuid_of(3)]) == (0, 0))
    nvml_stub.write([f"xid 3 79 {time.monotonic_ns()} 2"])
    wait_for(lambda: xids(agent.tick()[uuid_of(3)]) == (79, 2))
    return agent


def test_of_a_lost_board(told, nvml_stub):
    nvml_stub.lose(3)
    found = told.read(3)
    assert xids(found) == (79, 2)
    assert reasons_of(found) == {AbsentReason.GPU_IS_LOST}


def test_of_a_board_that_is_read_as_the_driver_is_unloaded(told, nvml_stub):
    nvml_stub.unload()
    found = told.read(3)
    assert xids(found) == (79, 2)
    assert reasons_of(found) == {AWAY}


def test_of_a_board_that_is_read_after_the_release(told):
    boards = told.backend.sources()
    told.backend.close()
    assert xids(boards[3].read()) == (79, 2)
    assert xids(boards[4].read()) == (RELEASED, RELEASED)  # none was counted, and nobody listens any more


def test_power_that_is_read_alone_brings_no_xids(told, nvml_stub):
    nvml_stub.unload()
    assert set(told.backend.sources()[3].read_power().values()) == {AWAY}


def test_by_the_agent_while_the_driver_is_away(agent, nvml_stub):
    nvml_stub.unload()
    agent.tick()
    for _ in range(3):
        found = agent.tick()
        assert xids(found[uuid_of(3)]) == (79, 2)
        assert reasons_of(found[uuid_of(3)]) == {AWAY}
        assert xids(found[uuid_of(4)]) == (AWAY, AWAY)


def test_by_the_agent_while_the_driver_is_let_go_of(agent):
    agent.collector.release({})
    agent.tick()
    found = agent.tick()
    assert xids(found[uuid_of(3)]) == (79, 2)
    assert reasons_of(found[uuid_of(3)]) == {RELEASED}
    assert xids(found[uuid_of(4)]) == (RELEASED, RELEASED)


def test_by_the_agent_that_goes_on_counting_when_the_driver_is_back(agent, nvml_stub):
    agent.collector.release({})
    agent.tick()
    agent.collector.resume()
    agent.tick()
    nvml_stub.write([f"xid 3 31 {time.monotonic_ns()}"])
    wait_for(lambda: xids(agent.tick()[uuid_of(3)]) == (31, 3))
