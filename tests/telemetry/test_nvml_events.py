"""XID and clock events through the real bindings and the stubbed driver's event sets (tests/nvml_stub)."""

import threading
import time

import pynvml
import pytest

from telemetry.agent.backends.nvml import events
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, EventKind

WAIT_SECONDS = 0.2
WAIT, REGISTER, SUPPORTED = "nvmlEventSetWait_v2", "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes"
GPU_IS_LOST = 15


def uuid_of(number):
    return f"GPU-5e9a000{number:x}-5747-4a54-9bb1-00000000100{number:x}"


def until(happens, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Hearing:
    """A listener on the stub's devices, with what it has handed over so far."""

    def __init__(self, stub, listener, numbers=range(8)):
        self.stub, self.listener, self.taken = stub, listener, []
        self.handles = {uuid_of(n): pynvml.nvmlDeviceGetHandleByUUID(uuid_of(n)) for n in numbers}
        self.start()

    def start(self):
        waits = self.stub.calls(WAIT)
        self.listener.start(self.handles)
        until(lambda: self.stub.calls(WAIT) > waits)

    def take(self, n):
        """Return the events once there are n of them, equal ones counted together."""

        def enough():
            self.taken += self.listener.take()
            return sum(event.count for event in self.taken) >= n

        until(enough)
        return self.taken


@pytest.fixture
def driver(nvml_stub):
    pynvml.nvmlInit()
    yield nvml_stub
    nvml_stub.clear()
    pynvml.nvmlShutdown()


@pytest.fixture
def hear(driver):
    listeners = []

    def begin(*, numbers=range(8), **settings):
        listeners.append(EventListener(**{"wait_seconds": WAIT_SECONDS, **settings}))
        return Hearing(driver, listeners[-1], numbers)

    yield begin
    driver.clear()
    assert all(listener.stop() for listener in listeners)


def test_an_xid_is_an_event_of_its_device_with_its_time(hear, driver):
    hearing = hear(clock=lambda: 1_700_000_000.5)
    driver.xid(3, 79)
    assert hearing.take(1) == [DeviceEvent(uuid_of(3), EventKind.XID, 79, 1_700_000_000_500, 1)]


def test_an_event_ends_the_wait_at_once(hear, driver):
    hearing = hear(wait_seconds=60.0)
    started = time.monotonic()
    driver.xid(0, 31)
    hearing.take(1)
    assert time.monotonic() - started < 30


def test_equal_events_are_one_with_a_count_and_the_time_of_the_first(hear, driver):
    seconds = iter(range(1000, 2000))
    hearing = hear(clock=lambda: next(seconds))
    driver.xid(1, 13, times=5)
    until(lambda: hearing.listener.xid_state(uuid_of(1)) == (13, 5))
    assert hearing.listener.take() == [DeviceEvent(uuid_of(1), EventKind.XID, 13, 1_000_000, 5)]
    assert hearing.listener.take() == []


def test_different_events_stand_apart_in_the_order_of_their_first(hear, driver):
    hearing = hear()
    driver.xid(1, 13)
    driver.xid(2, 13)
    driver.xid(1, 31)
    found = [(event.uuid, event.code) for event in hearing.take(3)]
    assert found == [(uuid_of(1), 13), (uuid_of(2), 13), (uuid_of(1), 31)]


def test_a_clock_event_carries_the_reasons_at_that_time(hear, driver):
    hearing = hear()
    driver.clock_event(5, 0x24)
    (event,) = hearing.take(1)
    assert (event.uuid, event.kind, event.code) == (uuid_of(5), EventKind.CLOCK, 0x24)
    assert hearing.listener.xid_state(uuid_of(5)) == (0, 0)


def test_a_driver_before_event_reasons_is_asked_for_throttle_reasons(hear, driver):
    driver.fail("*", "nvmlDeviceGetCurrentClocksEventReasons", 13)
    hearing = hear()
    driver.clock_event(5, 0x8)
    assert hearing.take(1)[0].code == 0x8


@pytest.mark.parametrize("line", ["fail 5 {} 999", "sentinel 5 {}"])
def test_a_clock_event_without_believable_reasons_is_told_once_and_left_out(hear, driver, caplog, line):
    driver.add(line.format("nvmlDeviceGetCurrentClocksEventReasons"))
    hearing = hear()
    driver.add(f"clock_event 5 {2**64 - 1} {time.monotonic_ns()} 3")
    driver.xid(5, 94)
    assert [event.kind for event in hearing.take(1)] == [EventKind.XID]
    assert caplog.text.count("reasons are not known") == 1


def test_a_device_without_clock_events_is_heard_for_xids_alone(hear, driver):
    driver.answer(2, SUPPORTED, pynvml.nvmlEventTypeXidCriticalError)
    hearing = hear()
    driver.clock_event(2, 0x4)
    driver.xid(2, 48)
    assert [event.code for event in hearing.take(1)] == [48]


@pytest.mark.parametrize("line", ["answer 2 {} 16", "unsupported 2 {}"])
def test_of_a_device_without_xid_events_the_count_is_absent_and_not_zero(hear, driver, line):
    driver.add(line.format(SUPPORTED))
    hearing = hear()
    assert hearing.listener.xid_state(uuid_of(2)) is AbsentReason.NOT_SUPPORTED
    assert hearing.listener.xid_state(uuid_of(3)) == (0, 0)


def test_a_device_that_cannot_be_registered_does_not_keep_the_others_from_being_heard(hear, driver, caplog):
    driver.fail(4, REGISTER, GPU_IS_LOST)
    hearing = hear()
    driver.xid(0, 63)
    assert hearing.take(1)[0].uuid == uuid_of(0)
    assert hearing.listener.xid_state(uuid_of(4)) is AbsentReason.UNKNOWN
    assert uuid_of(4) in caplog.text


def test_a_device_that_could_not_be_registered_is_tried_again(hear, driver):
    driver.fail(4, REGISTER, GPU_IS_LOST)
    hearing = hear(retry_seconds=0.05)
    driver.clear()
    until(lambda: hearing.listener.xid_state(uuid_of(4)) == (0, 0))
    driver.xid(4, 95)
    assert hearing.take(1)[0].uuid == uuid_of(4)


def test_a_board_that_comes_later_is_heard_too_in_the_same_set(hear, driver):
    hearing = hear(numbers=[0, 1])
    sets = driver.calls("nvmlEventSetCreate")
    hearing.listener.start(hearing.handles | {uuid_of(5): pynvml.nvmlDeviceGetHandleByUUID(uuid_of(5))})
    assert hearing.listener.xid_state(uuid_of(5)) is AbsentReason.UNKNOWN
    until(lambda: hearing.listener.xid_state(uuid_of(5)) == (0, 0))
    driver.xid(0, 31)
    driver.xid(5, 79)
    assert [(event.uuid, event.code) for event in hearing.take(2)] == [(uuid_of(0), 31), (uuid_of(5), 79)]
    assert driver.calls("nvmlEventSetCreate") == sets


def test_boards_that_are_told_again_are_not_registered_twice(hear, driver):
    hearing = hear(numbers=[0, 1])
    registered, waits = driver.calls(REGISTER), driver.calls(WAIT)
    hearing.listener.start(hearing.handles)
    until(lambda: driver.calls(WAIT) > waits + 1)
    assert driver.calls(REGISTER) == registered


def test_the_count_goes_on_when_the_driver_is_opened_again(hear, driver):
    hearing = hear()
    driver.xid(6, 31, times=2)
    hearing.take(2)
    assert hearing.listener.stop()
    assert hearing.listener.xid_state(uuid_of(6)) is AbsentReason.UNKNOWN
    hearing.start()
    driver.xid(6, 79)
    until(lambda: hearing.listener.xid_state(uuid_of(6)) == (79, 3))


def test_events_that_were_not_taken_yet_outlive_a_stop(hear, driver):
    hearing = hear()
    driver.xid(6, 31)
    until(lambda: hearing.listener.xid_state(uuid_of(6)) == (31, 1))
    hearing.listener.stop()
    assert [event.code for event in hearing.listener.take()] == [31]


def test_stop_frees_the_set_once_and_not_while_the_thread_waits_in_it(hear, driver):
    hearing = hear(wait_seconds=0.5)
    freed, misuses = driver.calls("nvmlEventSetFree"), driver.misuses()
    assert hearing.listener.stop()
    assert driver.calls("nvmlEventSetFree") == freed + 1
    assert driver.misuses() == misuses


def test_the_stub_notices_a_set_that_is_freed_during_a_wait(driver):
    misuses, waits = driver.misuses(), driver.calls(WAIT)
    event_set = pynvml.nvmlEventSetCreate()

    def wait():
        with pytest.raises(pynvml.NVMLError):
            pynvml.nvmlEventSetWait_v2(event_set, 2_000)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: driver.calls(WAIT) > waits)
    pynvml.nvmlEventSetFree(event_set)
    thread.join()
    assert driver.misuses() == misuses + 1


def test_a_stop_that_the_driver_holds_up_says_so(driver, monkeypatch, caplog):
    monkeypatch.setattr(events, "_STOP_GRACE_SECONDS", 0.1)
    driver.hang("*", WAIT)
    listener = EventListener(wait_seconds=0.05)
    Hearing(driver, listener)
    assert not listener.stop()
    assert "does not come back" in caplog.text
    driver.clear()
    until(listener.stop)


def test_an_idle_driver_wakes_the_thread_once_a_wait(hear, driver):
    hear(wait_seconds=0.5)
    began, waits = time.monotonic(), driver.calls(WAIT)
    until(lambda: driver.calls(WAIT) >= waits + 3)
    assert time.monotonic() - began >= 0.9  # the first may come at once, and each of the others a wait later


def test_a_wait_that_fails_is_not_repeated_without_a_pause(hear, driver, caplog):
    driver.fail("*", WAIT, 999)
    waits, began = driver.calls(WAIT), time.monotonic()
    hear(wait_seconds=0.05)
    until(lambda: driver.calls(WAIT) >= waits + 4)
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2  # the pauses, each twice the one before
    assert caplog.text.count("are not heard") == 1


def test_it_hears_again_after_the_wait_has_failed(hear, driver):
    driver.fail("*", WAIT, GPU_IS_LOST)
    hearing = hear()
    until(lambda: hearing.listener.xid_state(uuid_of(1)) is AbsentReason.UNKNOWN)
    driver.clear()
    until(lambda: hearing.listener.xid_state(uuid_of(1)) == (0, 0))
    driver.xid(1, 45)
    assert hearing.take(1)[0].code == 45


def test_after_a_failed_wait_devices_are_asked_for_by_uuid_since_stale_handles_crash(hear, driver):
    driver.fail("*", WAIT, GPU_IS_LOST)
    asked = driver.calls("nvmlDeviceGetHandleByUUID", 1)
    hear(numbers=[1])
    until(lambda: driver.calls("nvmlDeviceGetHandleByUUID", 1) > asked + 1)


def test_an_xid_of_a_device_that_was_not_asked_for_is_logged(hear, driver, caplog):
    hearing = hear(numbers=[0])
    driver.add(f"xid -1 74 {time.monotonic_ns()}")
    driver.xid(0, 31)
    assert [event.code for event in hearing.take(1)] == [31]
    assert "xid 74 of device unknown" in caplog.text


def test_an_xid_that_no_table_could_hold_is_logged(hear, driver, caplog):
    hearing = hear()
    driver.add(f"xid 0 -1 {time.monotonic_ns()}")
    driver.xid(0, 31)
    assert [event.code for event in hearing.take(1)] == [31]
    assert "left out" in caplog.text


def test_a_flood_is_counted_whole_in_little_memory(hear, driver, monkeypatch):
    monkeypatch.setattr(events, "_REST_SECONDS", 0)
    hearing = hear()
    driver.xid(0, 31, times=20_000)
    until(lambda: hearing.listener.xid_state(uuid_of(0))[1] == 20_000, seconds=60)
    assert [event.count for event in hearing.listener.take()] == [20_000]


def test_what_is_too_many_different_events_is_counted_and_told(hear, driver, monkeypatch, caplog):
    monkeypatch.setattr(events, "_MAX_KINDS_KEPT", 3)
    hearing = hear()
    serial = time.monotonic_ns()
    driver.write([f"xid 0 {100 + i} {serial + i}" for i in range(10)])
    until(lambda: hearing.listener.xid_state(uuid_of(0)) == (109, 10))
    assert [event.code for event in hearing.listener.take()] == [100, 101, 102]
    assert "7 driver events were left out" in caplog.text


def test_it_rests_in_a_flood_so_that_sampling_goes_on(hear, driver):
    hearing = hear()
    began = time.monotonic()
    driver.xid(0, 31, times=10**9)
    until(lambda: hearing.listener.xid_state(uuid_of(0))[1] >= 1000)
    _, count = hearing.listener.xid_state(uuid_of(0))
    assert count <= 3000 * max(time.monotonic() - began, 1)
