"""Power of all boards asked in one round, over the real bindings and the stubbed driver; and what a batch makes of it."""

import time
from dataclasses import replace

import pytest

from telemetry.agent import lanes
from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.agent.batching import BatchMaker
from telemetry.agent.collector import Collector
from telemetry.agent.names import Names
from telemetry.agent.sampler import Sampler
from telemetry.agent.ticks import Tick, boot_seconds
from telemetry.agent.watch import Watch
from telemetry.catalog import AbsentReason
from telemetry.decoding import received
from telemetry.message import wire
from tests.telemetry.nvml_devices import POWER, UTILIZATION, uuid_of
from tests.telemetry.steered import wait_for

INSTANT = "field:186"
DRAW, DRAW_NOW = "power_draw_watts", "power_draw_instant_watts"


class Walk:
    """A collector over the stub, which the test has read its ticks."""

    def __init__(self, backend):
        self.collector = Collector([backend], 1.0, power_period=0.1)
        self.watch, self.number = Watch(boot_seconds), 0

    def full(self):
        return self._filled(is_full=True)

    def apart(self):
        return self._filled(is_full=False)

    def round(self, latest=5.0):
        """Return what a round brings: readings by the stub's number, or what else `read_power_together` returns."""
        now = boot_seconds()
        joint = self.collector.powered.read_power_together(self.watch, now, now + latest)
        if not joint:
            return joint
        tick = Tick(0, now, 0.0, is_full=False, joint=joint)
        tick.take_apart()
        return by_number(tick)

    def _filled(self, *, is_full):
        self.number += 1
        return by_number(self.collector.sample(self.number, boot_seconds(), 0.0, is_full=is_full))


def by_number(tick):
    return {device.index: dict(tick.readings[uuid]) for uuid, device in tick.devices.items()}


@pytest.fixture
def walk(nvml_stub):
    """All boards read in full and their power once by itself, after which a round stands."""
    backend = NvmlBackend(listener=EventListener(wait_seconds=0.05))
    walk = Walk(backend)
    wait_for(lambda: walk.full() and walk.collector.powered)  # the first one finds out what they offer, and is slow
    walk.apart()
    yield walk
    nvml_stub.clear()
    walk.collector.close()


def test_a_round_brings_the_power_of_every_board_and_asks_nothing_else(walk, nvml_stub):
    for number in range(8):
        nvml_stub.answer(number, POWER, 100_000 + number)
        nvml_stub.answer(number, INSTANT, 200_000 + number)
    others, power = nvml_stub.calls(UTILIZATION, 0), nvml_stub.calls(POWER, 0)

    found = walk.round()

    assert found == {n: {DRAW: (100_000 + n) / 1000, DRAW_NOW: (200_000 + n) / 1000} for n in range(8)}
    assert (nvml_stub.calls(UTILIZATION, 0), nvml_stub.calls(POWER, 0)) == (others, power + 1)


def test_a_value_that_is_refused_is_absent_by_itself_with_its_own_reason(walk, nvml_stub):
    nvml_stub.forbid(3, INSTANT)

    assert walk.round() is None
    found = walk.apart()

    assert found[3][DRAW_NOW] is AbsentReason.NO_PERMISSION
    assert found[3][DRAW] > 0
    assert all(found[number][DRAW_NOW] > 0 for number in range(8) if number != 3)


def test_while_one_board_answers_otherwise_no_round_asks_and_after_it_one_does(walk, nvml_stub):
    nvml_stub.forbid(3, INSTANT)
    walk.round()
    walk.apart()
    asked = nvml_stub.calls(POWER, 5)
    assert walk.round() is None
    assert nvml_stub.calls(POWER, 5) == asked

    nvml_stub.clear()
    walk.apart()

    assert len(walk.round()) == 8


def test_what_no_board_draws_is_absent_and_the_rest_is_kept(walk, nvml_stub):
    nvml_stub.sentinel(2, POWER)

    found = walk.round()

    assert found[2][DRAW] is AbsentReason.UNKNOWN
    assert found[2][DRAW_NOW] > 0
    assert found[1][DRAW] > 0


def test_a_lost_board_ends_the_round_and_says_so(walk, nvml_stub):
    nvml_stub.lose(4)

    assert walk.round() is None
    found = walk.apart()

    assert set(found[4].values()) == {AbsentReason.GPU_IS_LOST}
    assert found[5][DRAW] > 0
    assert walk.round() is None


def test_a_round_that_takes_too_long_brings_nothing(walk, nvml_stub):
    nvml_stub.slow(0, "nvmlDeviceGetFieldValues", 60)
    asked = nvml_stub.calls(POWER, 7)

    assert walk.round(latest=0.05) == ()

    assert nvml_stub.calls(POWER, 7) == asked


def test_where_rounds_are_too_slow_each_board_is_asked_and_those_in_time_are_kept(walk, nvml_stub, caplog):
    nvml_stub.slow("*", "nvmlDeviceGetFieldValues", 12)

    assert [walk.round(latest=0.05) for _ in range(4)] == [(), (), (), None]
    found = walk.apart()

    assert 1 <= len(found) < 8
    assert [record.levelname for record in caplog.records if "too slow" in record.message] == ["WARNING"]


def test_a_round_in_time_makes_up_for_late_ones(walk, nvml_stub):
    for _ in range(3):
        assert [walk.round(latest=0.0), walk.round(latest=0.0)] == [(), ()]
        assert len(walk.round()) == 8


def test_a_round_is_tried_again_after_a_while(walk, monkeypatch):
    monkeypatch.setattr(lanes, "APART_SECONDS", 0.0)
    assert [walk.round(latest=0.0) for _ in range(3)] == [(), (), ()]

    assert len(walk.round()) == 8


@pytest.mark.parametrize("step", ["make_power", "statuses"])
def test_what_goes_wrong_in_a_round_leaves_each_board_to_be_read_by_itself(walk, monkeypatch, step):
    rounds = walk.collector.powered.backend.rounds
    made = rounds.make_power()
    monkeypatch.setattr(rounds, "power", replace(made, statuses=fail) if step == "statuses" else None)
    monkeypatch.setattr(rounds, "make_power", fail)

    assert walk.round() is None
    assert len(walk.apart()) == 8


def fail(*_):
    raise LookupError("nobody thought of it")


def test_no_round_begins_once_the_driver_is_let_go_of(walk):
    walk.collector.release({})
    assert walk.round() is None
    walk.collector.settle()
    assert walk.round() is None


def test_boards_that_do_not_offer_the_same_are_read_one_by_one(nvml_stub):
    nvml_stub.make_a100(1)  # without the power of the instant
    walk = Walk(NvmlBackend(listener=EventListener(wait_seconds=0.05)))
    wait_for(lambda: walk.full() and walk.collector.powered)

    found = walk.apart()

    assert DRAW_NOW in found[0]
    assert DRAW_NOW not in found[1]
    assert walk.round() is None
    walk.collector.close()


@pytest.mark.parametrize("faults", [[], [f"sentinel 6 {POWER}"]])
def test_a_batch_of_rounds_says_what_the_boards_said_one_by_one(walk, nvml_stub, faults):
    joint, start = [], boot_seconds()
    for n in range(20):
        nvml_stub.write([*faults, f"answer * {INSTANT} {300_000 + n}"])
        joint.append(walk.collector.powered.read_power_together(walk.watch, start, start + 60))
    rounds = [Tick(n, start + n / 10, 0.0, is_full=False, joint=each) for n, each in enumerate(joint)]
    apart = [Tick(n, start + n / 10, 0.0, is_full=False, joint=each) for n, each in enumerate(joint)]
    for tick in apart:
        tick.take_apart()

    assert batch_of(rounds) == batch_of(apart)
    assert batch_of(rounds).columns[DRAW_NOW][7] == [(300_000 + n) / 1000 for n in range(20)]


def batch_of(ticks):
    maker = BatchMaker("gpu-a01", "a" * 32, Names("b" * 32), 1.0)
    (batch,) = maker.make(ticks, {}, None, lambda: 2000.5)
    return received.unpack(wire.pack(batch))


@pytest.fixture
def sampler(nvml_stub, monkeypatch):
    monkeypatch.setattr(lanes, "APART_SECONDS", 0.0)  # a machine under load is late several times in a row
    backend = NvmlBackend(listener=EventListener(wait_seconds=0.2))
    made = Sampler(Collector([backend], 0.5, power_period=0.05), 0.5, power_period=0.05, patience=0.3)
    made.start()
    yield made
    nvml_stub.clear()
    wait_for(lambda: not any(driver.held for driver in made.drivers()))
    made.stop()


def gathered(sampler, is_enough, seconds=60.0):
    ticks = []
    wait_for(lambda: ticks.extend(sampler.take()) or is_enough(ticks), seconds)
    return ticks


def test_the_sampler_walks_by_rounds_between_its_full_ticks(sampler):
    ticks = gathered(sampler, lambda ticks: sum(tick.joint is not None for tick in ticks) >= 10)

    numbers = [tick.number for tick in ticks]
    assert numbers == sorted(set(numbers))
    assert all(tick.number % 10 == 0 for tick in ticks if tick.is_full)
    assert not any(tick.joint for tick in ticks if tick.is_full)


def test_a_board_that_hangs_in_a_round_is_held_and_the_others_go_on(sampler, nvml_stub):
    gathered(sampler, lambda ticks: any(tick.joint for tick in ticks))
    nvml_stub.hang(3, "nvmlDeviceGetFieldValues")

    def is_told(ticks):
        return any(held_alone(tick) for tick in ticks if tick.is_full)

    assert is_told(gathered(sampler, is_told))


def held_alone(tick):
    """Tell whether the tick has numbers of all boards but the one that hangs."""
    draws = {uuid: readings.get(DRAW) for uuid, readings in tick.readings.items()}
    hanging = draws.pop(uuid_of(3), None)
    return hanging is AbsentReason.TIMEOUT and len(draws) == 7 and AbsentReason.TIMEOUT not in draws.values()


def test_letting_go_while_it_walks_waits_for_no_full_tick(sampler, nvml_stub):
    gathered(sampler, lambda ticks: any(tick.joint for tick in ticks))
    misuses = nvml_stub.misuses()  # of this process, whose other tests have theirs

    sampler.release({})
    began = time.monotonic()
    wait_for(lambda: not any(driver.is_open for driver in sampler.drivers()))

    assert time.monotonic() - began < 10.0  # a machine with much else to do takes its time
    assert nvml_stub.misuses() == misuses
