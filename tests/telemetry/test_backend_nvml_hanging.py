"""The NVML backend while a driver call does not return: the others are read on another thread, and the driver let go of."""

import threading
import time

import pytest

from tests.telemetry.nvml_devices import UTILIZATION, uuid_of

CALLS = ["nvmlDeviceGetTemperature", "nvmlDeviceGetFieldValues", "nvmlGpmSampleGet"]


def read_apart(source):
    """Read a source on a thread of its own; return the thread and where its readings will be."""
    found = []
    thread = threading.Thread(target=lambda: found.append(source.read()), daemon=True)
    thread.start()
    return thread, found


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def hang(opened, nvml_stub, number, call):
    """Let a board's read hang on a thread; return the thread and where its readings will be."""
    opened.clock.seconds += 1
    nvml_stub.hang(number, call)
    asked = nvml_stub.calls(call, number)
    thread, found = read_apart(opened.backend.sources()[number])
    until(lambda: nvml_stub.calls(call, number) > asked)
    return thread, found


@pytest.mark.parametrize("call", CALLS)
def test_the_other_boards_are_read_while_one_hangs(opened, nvml_stub, call):
    thread, found = hang(opened, nvml_stub, 1, call)
    others = [source.read() for source in opened.backend.sources() if source.device.uuid != uuid_of(1)]
    assert all(readings["power_draw_watts"] > 0 for readings in others)
    nvml_stub.clear()
    thread.join(60)
    assert found[0]["power_draw_watts"] > 0


def test_devices_are_not_listed_while_one_hangs_which_might_hang_as_well(opened, nvml_stub):
    thread, _ = hang(opened, nvml_stub, 1, UTILIZATION)
    listed = nvml_stub.calls("nvmlDeviceGetCount_v2")
    opened.clock.seconds += 60
    opened.backend.sources()
    assert nvml_stub.calls("nvmlDeviceGetCount_v2") == listed
    nvml_stub.clear()
    thread.join(60)
    opened.backend.sources()
    assert nvml_stub.calls("nvmlDeviceGetCount_v2") == listed + 1


def test_a_driver_is_not_shut_down_under_a_call_that_hangs_but_when_it_returns(opened, nvml_stub):
    thread, _ = hang(opened, nvml_stub, 1, UTILIZATION)
    let_go = nvml_stub.calls("nvmlShutdown")
    opened.backend.close()
    assert nvml_stub.calls("nvmlShutdown") == let_go
    nvml_stub.clear()
    thread.join(60)
    assert nvml_stub.calls("nvmlShutdown") == let_go + 1


def test_the_driver_can_be_taken_up_again_while_a_call_of_the_former_session_hangs(opened, nvml_stub):
    held = nvml_stub.gpm_samples()
    thread, found = hang(opened, nvml_stub, 1, UTILIZATION)
    opened.backend.close()
    opened.backend.open()
    others = [source for source in opened.backend.sources() if source.device.uuid != uuid_of(1)]
    assert all(source.read()["power_draw_watts"] > 0 for source in others)
    nvml_stub.clear()
    thread.join(60)
    assert found[0]["power_draw_watts"] > 0
    assert opened.read(1)["power_draw_watts"] > 0
    assert nvml_stub.gpm_samples() == held


def test_opening_asks_no_board_for_readings_so_that_one_that_hangs_does_not_hold_it_up(rig, nvml_stub):
    nvml_stub.hang(1, UTILIZATION)
    rig.backend.open()
    assert rig.backend.sources()[0].read()["power_draw_watts"] > 0
