"""Events, processes, topology and software as they arrive through the NVML backend (tests/nvml_stub)."""

import os
import time

import pytest

from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, EventKind

UUID = "GPU-5e9a0003-5747-4a54-9bb1-000000001003"
WAIT = "nvmlEventSetWait_v2"


@pytest.fixture
def backend(nvml_stub):
    backend = NvmlBackend(listener=EventListener(wait_seconds=0.1))
    waits = nvml_stub.calls(WAIT)
    backend.open()
    while nvml_stub.calls(WAIT) == waits:
        time.sleep(0.005)
    yield backend
    nvml_stub.clear()
    backend.close()


def board(backend):
    return next(source for source in backend.sources() if source.device.uuid == UUID)


def take_events(backend):
    deadline = time.monotonic() + 60
    while not (events := backend.take_events()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return events


def test_an_xid_arrives_as_an_event_and_in_the_boards_readings(backend, nvml_stub):
    assert board(backend).read()["xid_errors_total"] == 0
    nvml_stub.xid(3, 79)
    (event,) = take_events(backend)
    assert event == DeviceEvent(UUID, EventKind.XID, 79, event.at_ms, 1)
    readings = board(backend).read()
    assert (readings["xid_last"], readings["xid_errors_total"]) == (79, 1)


def test_the_xid_count_outlives_a_release_of_the_driver(backend, nvml_stub):
    nvml_stub.xid(3, 31)
    take_events(backend)
    misuses = nvml_stub.misuses()
    backend.close()
    waits = nvml_stub.calls(WAIT)
    backend.open()
    while nvml_stub.calls(WAIT) == waits:
        time.sleep(0.005)
    readings = board(backend).read()
    assert (readings["xid_last"], readings["xid_errors_total"]) == (31, 1)
    assert nvml_stub.misuses() == misuses


def test_a_process_arrives_with_its_owner(backend, nvml_stub):
    nvml_stub.run_process(3, os.getpid(), used_bytes=2**30, percent=40)
    (process,) = board(backend).processes()
    assert (process.pid, process.memory_bytes, process.sm_ratio) == (os.getpid(), 2**30, 0.4)
    assert process.user
    assert process.command


def test_of_a_lost_board_the_empty_list_of_processes_does_not_count(backend, nvml_stub):
    nvml_stub.run_process(3, 1)
    nvml_stub.lose(3)
    readings = board(backend).read()
    assert {reason for name, reason in readings.items() if not name.startswith("xid_")} == {AbsentReason.GPU_IS_LOST}
    assert board(backend).processes() is None


def test_a_mig_instance_has_its_own_processes_and_the_board_all(backend, nvml_stub):
    nvml_stub.add("mig 3 3g.40gb,3g.40gb")
    nvml_stub.run_process(3, 11, instance=1)
    nvml_stub.run_process(3, 12, instance=2)
    backend.close()
    backend.open()
    found = {source.device.parent: [] for source in backend.sources()}
    for source in backend.sources():
        if UUID in {source.device.uuid, source.device.parent}:
            found[source.device.parent].append([process.pid for process in source.processes()])
    assert found == {"": [[11, 12]], UUID: [[11], [12]]}


def test_the_topology_joins_all_boards(backend):
    topology = backend.topology()
    assert len(topology.links) == 28
    assert {way for _, _, way in topology.links} == {"NV18"}
    assert set(topology.numa.values()) == {0, 1}


def test_the_software_is_the_drivers(backend):
    assert backend.software() == {"driver": "580.105.08", "cuda": "13.0", "nvml": "12.580.105.08"}
