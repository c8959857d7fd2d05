"""Who uses a device, through the real bindings and the stubbed driver (tests/nvml_stub)."""

import time

import pynvml
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetry.agent.backends.nvml import processes
from telemetry.agent.backends.nvml.processes import SmShares, read_processes
from telemetry.agent.backends.ownership import Owner
from telemetry.message.wire import NO_PID, DeviceProcess

COMPUTING, DRAWING = "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"
UTILIZATION = "nvmlDeviceGetProcessUtilization"
NOT_SUPPORTED, NOT_FOUND, GPU_IS_LOST = 3, 6, 15
GIB = 2**30


class Device:
    """The stub's device 3 as a backend reads it, with the owners that a test names."""

    def __init__(self, stub, clock=time.time):
        self.stub, self.shares = stub, SmShares(clock)
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(3)

    def read(self):
        return read_processes(self.handle, self.shares, lambda pid: Owner(command=f"job {pid}"))

    def by_pid(self):
        return {process.pid: process for process in self.read()}


@pytest.fixture
def device(nvml_stub):
    pynvml.nvmlInit()
    yield Device(nvml_stub)
    nvml_stub.clear()
    pynvml.nvmlShutdown()


def test_a_process_has_its_memory_its_share_and_its_owner(device):
    device.stub.run_process(3, 4242, used_bytes=8 * GIB, percent=73)
    owner = Owner("ada", "python train.py", "docker:3f2a81c09d17", "4711")
    assert read_processes(device.handle, device.shares, lambda pid: owner) == [
        DeviceProcess(4242, "python train.py", "ada", 8 * GIB, 0.73, "docker:3f2a81c09d17", "4711")
    ]


def test_a_device_without_a_process_has_an_empty_list(device):
    device.stub.run_process(2, 4242)
    assert device.read() == []


def test_those_with_the_most_memory_come_first(device):
    for pid, used in ((1, 2 * GIB), (2, "na"), (3, 5 * GIB)):
        device.stub.run_process(3, pid, used_bytes=used)
    assert [process.pid for process in device.read()] == [3, 1, 2]


def test_memory_that_the_driver_does_not_know_is_none_and_not_zero(device):
    device.stub.run_process(3, 1, used_bytes="na")
    device.stub.run_process(3, 2, used_bytes=2**63)
    assert [process.memory_bytes for process in device.read()] == [None, None]


def test_a_process_that_computes_and_draws_stands_once(device):
    device.stub.run_process(3, 1, used_bytes=GIB, kind="C+G")
    device.stub.run_process(3, 2, used_bytes=GIB, kind="G")
    assert [(process.pid, process.memory_bytes) for process in device.read()] == [(1, GIB), (2, GIB)]


def test_a_display_server_only_draws_and_who_also_computes_does_not(device):
    for pid, kind in ((1, "G"), (2, "C+G"), (3, "C")):
        device.stub.run_process(3, pid, used_bytes=GIB, kind=kind)
    assert {pid: process.only_draws for pid, process in device.by_pid().items()} == {1: True, 2: False, 3: False}


@pytest.mark.parametrize("pid", [0, 1])
def test_where_the_driver_does_not_tell_who_computes_nobody_is_said_only_to_draw(device, pid):
    device.stub.run_process(3, pid, used_bytes=GIB, kind="G")
    device.stub.forbid(3, COMPUTING)
    assert [process.only_draws for process in device.read()] == [False]


def test_of_those_without_a_number_it_is_known_too_who_only_draws(device):
    for used, kind in ((3 * GIB, "C+G"), (2 * GIB, "G"), (GIB, "C")):
        device.stub.run_process(3, 0, used_bytes=used, kind=kind)
    assert [(process.memory_bytes, process.only_draws) for process in device.read()] == [
        (3 * GIB, False), (2 * GIB, True), (GIB, False),
    ]  # fmt: skip


def test_a_processs_memory_in_several_instances_is_their_sum(device):
    device.stub.run_process(3, 1, used_bytes=GIB, instance=1)
    device.stub.run_process(3, 1, used_bytes=2 * GIB, instance=2)
    assert [process.memory_bytes for process in device.read()] == [3 * GIB]


def test_a_part_that_is_not_known_leaves_the_sum_unknown(device):
    device.stub.run_process(3, 1, used_bytes=GIB, instance=1)
    device.stub.run_process(3, 1, used_bytes="na", instance=2)
    assert [process.memory_bytes for process in device.read()] == [None]


def test_an_idle_process_has_no_share(device):
    device.stub.run_process(3, 1, percent="idle")
    device.stub.run_process(3, 2, percent=0)
    assert {pid: process.sm_ratio for pid, process in device.by_pid().items()} == {1: None, 2: 0.0}


def test_no_sample_at_all_comes_as_an_error_with_the_code_of_success(device):
    device.stub.run_process(3, 1, percent="idle")
    with pytest.raises(pynvml.NVMLError) as error:
        pynvml.nvmlDeviceGetProcessUtilization(device.handle, 0)
    assert error.value.value == pynvml.NVML_SUCCESS
    assert device.by_pid()[1].sm_ratio is None


@pytest.mark.parametrize("code", [NOT_FOUND, NOT_SUPPORTED, 999])
def test_without_shares_the_processes_are_told_all_the_same(device, code):
    device.stub.run_process(3, 1, used_bytes=GIB, percent=50)
    device.stub.fail(3, UTILIZATION, code)
    assert [(process.memory_bytes, process.sm_ratio) for process in device.read()] == [(GIB, None)]


@pytest.mark.parametrize("percent", [101, 2**32 - 1])
def test_a_sentinel_is_no_share(device, percent):
    device.stub.run_process(3, 1, percent=percent)
    assert device.by_pid()[1].sm_ratio is None


def test_samples_are_asked_for_since_the_newest_that_was_read(device):
    device.stub.run_process(3, 1, percent=10)
    before = time.time() * 1e6
    device.read()
    assert device.stub.asked_since(3) == 0
    device.read()
    assert before <= device.stub.asked_since(3) <= time.time() * 1e6


def test_a_stamp_that_is_a_sentinel_does_not_end_the_samples(device):
    device.stub.run_process(3, 1, percent=10)
    device.stub.sentinel(3, UTILIZATION)
    assert device.by_pid()[1].sm_ratio is None
    device.stub.write(["process 3 1 0 10"])
    assert device.by_pid()[1].sm_ratio == 0.1


def test_a_sample_from_before_a_long_rest_is_no_share_of_now(device, monkeypatch):
    def kept_by_the_driver(handle, since):
        sample = pynvml.c_nvmlProcessUtilizationSample_t
        return [sample(1, 1_000_000_000, 90), sample(2, 1_060_000_000, 40), sample(1, 1_050_500_000, 20)]

    monkeypatch.setattr(pynvml, "nvmlDeviceGetProcessUtilization", kept_by_the_driver)
    assert device.shares.read(device.handle) == {1: 0.2, 2: 0.4}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetProcessUtilization", lambda *a: kept_by_the_driver(*a)[:2])
    assert SmShares().read(device.handle) == {2: 0.4}


def test_a_clock_that_is_set_back_does_not_end_the_samples(device):
    device.stub.run_process(3, 1, percent=10)
    device.read()
    device.shares._clock = lambda: time.time() - 3600
    device.read()
    assert device.stub.asked_since(3) == 0


def test_a_driver_before_version_3_is_asked_for_version_2(device, monkeypatch):
    old = [pynvml.nvmlFriendlyObject({"pid": 9, "usedGpuMemory": GIB, "gpuInstanceId": 0, "computeInstanceId": 0})]

    def missing(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    monkeypatch.setattr(processes, "_LISTS", ((missing, lambda handle: old), (missing, lambda handle: [])))
    assert [process.pid for process in device.read()] == [9]


def test_one_list_is_enough(device):
    device.stub.run_process(3, 1)
    device.stub.unsupport(3, DRAWING)
    assert [process.pid for process in device.read()] == [1]


def test_neither_list_means_not_known_and_not_empty(device):
    device.stub.run_process(3, 1)
    device.stub.forbid(3, COMPUTING)
    device.stub.unsupport(3, DRAWING)
    assert device.read() is None


@pytest.mark.parametrize("call", [COMPUTING, DRAWING])
def test_a_device_that_is_lost_meanwhile_has_no_known_processes(device, call):
    device.stub.run_process(3, 1)
    device.stub.fail(3, call, GPU_IS_LOST)
    assert device.read() is None


def test_a_process_of_another_namespace_is_told_without_number_and_owner(device):
    device.stub.run_process(3, 0, used_bytes=5 * GIB, percent=80)
    device.stub.run_process(3, 8, used_bytes=GIB)
    assert device.read()[0] == DeviceProcess(NO_PID, memory_bytes=5 * GIB)
    assert [process.pid for process in device.read()] == [NO_PID, 8]


def test_of_several_without_a_number_each_is_told_and_who_also_draws_stands_once(device):
    for used, kind in ((GIB, "C+G"), (GIB, "C"), (2 * GIB, "G"), ("na", "C")):
        device.stub.run_process(3, 0, used_bytes=used, kind=kind)
    assert [(process.pid, process.memory_bytes) for process in device.read()] == [
        (NO_PID, 2 * GIB), (NO_PID, GIB), (NO_PID, GIB), (NO_PID, None),
    ]  # fmt: skip


def test_a_process_that_proc_does_not_show_is_known_by_the_driver_alone(device):
    device.stub.run_process(3, 4242, used_bytes=GIB)
    (found,) = read_processes(device.handle, device.shares, lambda pid: Owner())
    assert (found.pid, found.memory_bytes, found.is_hidden) == (4242, GIB, True)


def test_more_processes_than_a_message_takes_are_cut_and_told(device, monkeypatch, caplog):
    monkeypatch.setattr(processes, "_MAX_PROCESSES", 2)
    device.stub.write([f"process 3 {pid} {pid} idle" for pid in (1, 2, 3)])
    assert [process.pid for process in device.read()] == [3, 2]
    assert "3 processes" in caplog.text


def _rows():
    number = st.integers(0, 2**32 - 1)
    used = st.just("na") | st.integers(0, 2**64 - 1)
    percent = st.just("idle") | number
    line = st.builds(
        "process 3 {} {} {} {} {}".format, number, used, percent, st.sampled_from(["C", "G", "C+G"]), number
    )
    codes = st.sampled_from([0, 1, 2, 3, 4, 6, 9, 10, 13, 15, 16, 25, 999]) | st.integers(1, 2000)
    fault = st.builds("fail 3 {} {}".format, st.sampled_from([COMPUTING, DRAWING, UTILIZATION]), codes)
    stamp = st.builds("answer 3 {} {}".format, st.just(UTILIZATION), st.integers(0, 2**64 - 1))
    return st.lists(line | fault | stamp, max_size=10)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(lines=_rows())
@example(lines=["process 3 1 na 100 C+G 0", f"answer 3 {UTILIZATION} {2**64 - 1}"])
def test_whatever_the_driver_answers_a_process_is_believable_or_absent(device, lines):
    device.stub.write(lines)
    found = device.read()
    stated = {int(line.split()[2]) for line in lines if line.startswith("process")}
    for process in found or []:
        assert process.pid in stated
        assert process.memory_bytes is None or 0 <= process.memory_bytes <= len(lines) * 2**50
        assert process.sm_ratio is None or 0 <= process.sm_ratio <= 1
    numbered = [process.pid for process in found or [] if process.pid != NO_PID]
    assert len(set(numbered)) == len(numbered)
