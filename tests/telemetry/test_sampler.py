"""The sampler's threads: ticks on a grid, and driver calls that do not return."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from telemetry.agent.collector import Collector
from telemetry.agent.lanes import Lane
from telemetry.agent.sampler import Sampler
from telemetry.agent.ticks import Tick
from telemetry.agent.watch import Watch
from telemetry.catalog import AbsentReason
from tests.telemetry.steered import POWER, Hang, PowerSource, SteeredBackend, SteeredSource, wait_for

PERIOD, PATIENCE = 0.05, 0.3  # patience for a busy machine, on which any call may take its time
TIMED_OUT = {"power_draw_watts": AbsentReason.TIMEOUT}
RELEASED = {"power_draw_watts": AbsentReason.RELEASED}


@pytest.fixture
def running():
    started = []

    def run(*backends: SteeredBackend, power_period: float | None = None) -> Sampler:
        collector = Collector(backends, PERIOD, power_period=power_period)
        sampler = Sampler(collector, PERIOD, power_period=power_period, patience=PATIENCE)
        sampler.start()
        started.append(sampler)
        return sampler

    yield run
    for sampler in started:
        sampler.stop()


@pytest.fixture
def hang():
    """Return a maker of calls that do not return before the test's end."""
    made = []

    def make() -> Hang:
        made.append(Hang())
        return made[-1]

    yield make
    for each in made:
        each.end()


def gather(sampler: Sampler, count: int) -> list[Tick]:
    ticks: list[Tick] = []
    wait_for(lambda: ticks.extend(sampler.take()) or len(ticks) >= count)
    return ticks


def wait_for_tick(sampler: Sampler, condition) -> Tick:
    found: list[Tick] = []
    wait_for(lambda: found.extend(tick for tick in sampler.take() if condition(tick.readings)) or found)
    return found[-1]


def wait_for_power(sampler: Sampler) -> None:
    """Wait until each device's power has been read in time: before that, no reading of it is known to be missed."""
    wait_for_tick(sampler, lambda readings: readings and all(found == POWER for found in readings.values()))


def n_threads() -> int:
    return sum(thread.name == "sample" for thread in threading.enumerate())


def test_ticks_lie_on_one_grid(running):
    ticks = gather(running(SteeredBackend("a"), SteeredBackend("b")), 4)

    first = ticks[0].boot_seconds
    assert all(
        (tick.boot_seconds - first) / PERIOD == pytest.approx(round((tick.boot_seconds - first) / PERIOD), abs=1e-6)
        for tick in ticks
    )
    assert {"GPU-a": POWER, "GPU-b": POWER} in [tick.readings for tick in ticks]


def test_two_threads_take_turns(running):
    running(SteeredBackend("a"))

    wait_for(lambda: n_threads() == 2)


def test_a_device_that_hangs_is_said_to_and_the_others_go_on(running, hang):
    hanging = SteeredSource("GPU-1")
    sampler = running(SteeredBackend("a", hanging, SteeredSource("GPU-2")), SteeredBackend("b"))
    wait_for_power(sampler)
    hanging.answer = hang()

    wait_for_tick(sampler, lambda readings: readings == {"GPU-1": TIMED_OUT, "GPU-2": POWER, "GPU-b": POWER})

    assert hanging.answer.callers == 1


def test_ticks_come_in_time_while_a_device_hangs(running, hang):
    hanging = SteeredSource("GPU-1")
    sampler = running(SteeredBackend("a", hanging, SteeredSource("GPU-2")))
    wait_for_power(sampler)
    hanging.answer = hang()
    wait_for_tick(sampler, lambda readings: readings.get("GPU-1") == TIMED_OUT and "GPU-2" in readings)

    def are_in_time() -> bool:
        numbers = [tick.number for tick in gather(sampler, 10)]
        return numbers[-1] - numbers[0] <= 12

    wait_for(are_in_time)  # not at once: a machine under load loses some
    assert hanging.answer.callers == 1


def test_a_device_that_hangs_is_called_by_one_thread_only(running, hang):
    hanging, call = SteeredSource("GPU-1"), hang()
    hanging.answer = call
    sampler = running(SteeredBackend("a", hanging, SteeredSource("GPU-2")))
    wait_for_tick(sampler, lambda readings: "GPU-2" in readings)

    gather(sampler, 10)

    assert (call.callers, hanging.reads) == (1, 1)
    wait_for(lambda: n_threads() == 3)


def test_a_call_that_comes_back_gives_the_device_back(running, hang):
    hanging, call = SteeredSource("GPU-1"), hang()
    sampler = running(SteeredBackend("a", hanging))
    wait_for_power(sampler)
    hanging.answer = call
    wait_for_tick(sampler, lambda readings: readings.get("GPU-1") == TIMED_OUT)

    call.end()

    wait_for_tick(sampler, lambda readings: readings["GPU-1"] == POWER)
    wait_for(lambda: n_threads() == 2)


def test_a_driver_in_which_every_call_hangs_is_left_alone(running, hang):
    sources = [SteeredSource(f"GPU-{n}", hang()) for n in range(30)]
    sampler = running(SteeredBackend("a", *sources), SteeredBackend("b"))

    wait_for(lambda: n_threads() == 18)  # 16 in the driver, and the two that take turns
    threads_before = {source.reads for source in sources}
    tick = wait_for_tick(sampler, lambda readings: len(readings) == 31)

    assert threads_before == {0, 1}
    assert (n_threads(), tick.readings["GPU-29"]) == (18, {"gpu_utilization_ratio": AbsentReason.TIMEOUT})


def test_a_driver_that_hangs_when_it_is_opened_holds_up_nobody(running, hang):
    stuck, call = SteeredBackend("a"), hang()
    stuck.opening = call
    sampler = running(stuck, SteeredBackend("b"))

    gather(sampler, 8)
    wait_for_tick(sampler, lambda readings: readings == {"GPU-b": POWER})
    call.end()

    wait_for_tick(sampler, lambda readings: readings.get("GPU-a") == POWER)


def test_devices_known_from_before_say_that_their_driver_hangs(running, hang):
    stuck = SteeredBackend("a")
    sampler = running(stuck, SteeredBackend("b"))
    wait_for_power(sampler)
    stuck.listing = hang()

    wait_for_tick(sampler, lambda readings: readings == {"GPU-a": TIMED_OUT, "GPU-b": POWER})

    assert stuck.listing.callers == 1


def test_processes_that_hang_hold_their_device_alone(running, hang):
    hanging, call = SteeredSource("GPU-1"), hang()
    hanging.processes = call
    sampler = running(SteeredBackend("a", hanging, SteeredSource("GPU-2")))

    def is_held_alone(readings) -> bool:
        return {*readings["GPU-1"].values()} == {AbsentReason.TIMEOUT} and readings["GPU-2"] == POWER

    wait_for_tick(sampler, is_held_alone)
    assert call.callers == 1


def test_power_is_read_between_the_full_ticks(running):
    sampler = running(SteeredBackend("a", PowerSource("GPU-1"), SteeredSource("GPU-2")), power_period=PERIOD / 5)

    ticks = gather(sampler, 20)

    between = [tick for tick in ticks if not tick.is_full]
    assert len(between) >= 10
    assert all(set(tick.readings) <= {"GPU-1"} for tick in between)
    assert ticks[-1].is_full


def test_power_that_cannot_be_read_for_once_ends_nothing(running, monkeypatch, caplog):
    faults = [LookupError("nobody thought of it")]
    monkeypatch.setattr(Lane, "read_power_together", lambda *_: () if not faults else raise_from(faults))
    sampler = running(SteeredBackend("a", PowerSource("GPU-1")), power_period=PERIOD / 5)
    wait_for(lambda: sampler.take() and not faults)

    ticks = gather(sampler, 10)

    assert any(tick.is_full for tick in ticks)
    assert any(not tick.is_full for tick in ticks)
    assert [record.levelname for record in caplog.records if "power of tick" in record.message] == ["ERROR"]


def raise_from(faults):
    raise faults.pop()


def test_letting_go_does_not_wait_for_the_next_tick(hang):
    backend = SteeredBackend("a")
    sampler = Sampler(Collector([backend], 3600.0), 3600.0)
    sampler.start()
    sampler.resume()
    wait_for(lambda: backend.opened == 1)

    sampler.release({})

    wait_for(lambda: backend.closed == 1)
    sampler.stop()


def test_letting_go_is_not_taken_for_a_call_that_hangs(running, hang, caplog):
    slow, other, call = SteeredBackend("a"), SteeredBackend("b"), hang()
    other.releasable = False
    sampler = running(slow, other)
    wait_for_power(sampler)
    slow.close = call
    sampler.release({})
    wait_for(lambda: call.callers)
    sampler.take()  # a tick of before may have come late, which says the same as a call that hangs

    ticks = gather(sampler, 10)

    assert all(tick.readings["GPU-a"] == RELEASED for tick in ticks)
    assert "does not return" not in caplog.text


def test_letting_go_of_a_driver_that_hangs_holds_up_nobody(running, hang):
    stuck, other = SteeredBackend("a"), SteeredBackend("b")
    other.releasable = False
    sampler = running(stuck, other)
    wait_for_power(sampler)
    stuck.close = hang()
    sampler.release({})

    wait_for_tick(sampler, lambda readings: readings.get("GPU-a") == RELEASED and readings.get("GPU-b") == POWER)

    assert stuck.close.callers == 1


def test_it_ends_while_a_call_hangs(running, hang):
    hanging = SteeredSource("GPU-1", hang())
    sampler = running(SteeredBackend("a", hanging))
    wait_for(lambda: hanging.reads == 1)

    began = time.monotonic()
    sampler.stop()

    assert time.monotonic() - began < 15  # the call hangs for twice as long


def test_the_lateness_is_told_once(running):
    sampler = running(SteeredBackend("a"))
    gather(sampler, 2)
    sampler.stop()

    assert sampler.take_lateness() > 0
    assert sampler.take_lateness() == 0


def test_a_stalled_machines_ticks_are_left_out_and_the_others_stay_in_order():
    """SIGSTOP for a while, as a suspend or a paused virtual machine would."""
    child = subprocess.Popen([sys.executable, "-m", "tests.telemetry.stalled"], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "started\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    child.send_signal(signal.SIGCONT)
    told = json.loads(child.communicate(timeout=60)[0])

    numbers = [number for number, _ in told]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] > len(numbers) + 5
    # The one under way when it stopped, and where the machine is busy some more.
    assert sum(is_absent for _, is_absent in told) <= 5


def test_both_threads_overdue_begin_no_tick_that_is_over(monkeypatch):
    now, slept = [0.0], []
    monkeypatch.setattr("telemetry.agent.sampler.boot_seconds", lambda: now[0])
    sampler = Sampler(Collector([SteeredBackend("a")], 1.0), 1.0)

    def sleep(due, watch, alarm):
        slept.append(due)
        now[0] = 9.5 if len(slept) == 1 else due
        return True

    monkeypatch.setattr(sampler, "_sleep", sleep)

    assert (sampler._await_tick(Watch(lambda: now[0]), threading.Lock()).number, slept) == (10, [1.0, 10.0])
