"""The NVML backend over the real bindings and the stubbed driver library (tests/nvml_stub): devices, units, processes."""

import json
import os
import subprocess
import sys

import pytest

from telemetry import catalog
from telemetry.agent.backends.deferred import Deferred
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import GPU_IS_LOST, MEMORY, POWER, UTILIZATION, uuid_of

# What NVML gives: a call, a field, a GPM metric, an event, or what is derived from them.
NVML_METRICS = {m.name for m in catalog.METRICS if m.source.startswith(("nvml", "NVML", "derived"))}
NVLINK_5 = {m.name for m in catalog.METRICS if m.source.startswith("NVML_FI_DEV_NVLINK_COUNT_")}
# A passive board has no fan, and one that is nobody's guest no licence.
NOT_ON_H100 = {"fan_speed_ratio", "vgpu_licensed", *NVLINK_5}


def test_it_finds_eight_devices_by_uuid(opened):
    devices = list(opened.devices().values())
    assert [device.uuid for device in devices] == [uuid_of(number) for number in range(8)]
    assert devices[0].model == "NVIDIA H100 80GB HBM3"
    assert devices[0].pci_bus_id == "00000000:07:00.0"
    assert [device.index for device in devices] == list(range(8))


def test_it_names_the_driver_and_the_cuda_version(opened):
    software = opened.backend.software()
    assert (software["driver"], software["cuda"]) == ("580.105.08", "13.0")


def test_a_container_without_libcuda_is_read_all_the_same(rig, nvml_stub):
    nvml_stub.fail("*", "nvmlSystemGetCudaDriverVersion_v2", 12)
    rig.backend.open()
    assert "cuda" not in rig.backend.software()
    assert len(rig.tick()) == 8


def test_a_board_knows_every_metric_of_the_catalogue_that_nvml_gives(opened):
    assert set(opened.read(0)) == NVML_METRICS


def test_an_h100_gives_every_metric_of_nvml_but_those_of_other_boards(opened):
    found = opened.read(0)
    absent = {name for name, value in found.items() if isinstance(value, AbsentReason)}
    assert absent - {"xid_last", "xid_errors_total"} == NOT_ON_H100  # the XIDs are the listener's, on its own thread


def test_an_h100_with_a_fan_gives_its_speed(rig, nvml_stub):
    nvml_stub.answer(0, "nvmlDeviceGetFanSpeed", 40)
    rig.backend.open()
    assert rig.read(0)["fan_speed_ratio"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("metric", "call", "raw", "expected"),
    [
        ("gpu_utilization_ratio", UTILIZATION, 42, 0.42),
        ("memory_controller_utilization_ratio", UTILIZATION, 42, 0.42),
        ("encoder_utilization_ratio", "nvmlDeviceGetEncoderUtilization", 7, 0.07),
        ("decoder_utilization_ratio", "nvmlDeviceGetDecoderUtilization", 8, 0.08),
        ("memory_total_bytes", MEMORY, 12345, 12345),
        ("memory_used_bytes", MEMORY, 12345, 12345),
        ("memory_free_bytes", MEMORY, 12345, 12345),
        ("memory_reserved_bytes", MEMORY, 12345, 12345),
        ("power_draw_watts", POWER, 345_678, 345.678),
        ("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", 650_000, 650),
        ("energy_joules_total", "field:83", 9_876_543, 9876.543),
        ("temperature_celsius", "nvmlDeviceGetTemperature", 61, 61),
        ("sm_clock_hertz", "nvmlDeviceGetClockInfo", 1755, 1_755_000_000),
        ("memory_clock_hertz", "nvmlDeviceGetClockInfo", 2619, 2_619_000_000),
        ("clock_event_reasons", "nvmlDeviceGetCurrentClocksEventReasons", 0x44, 0x44),
        ("pcie_replay_total", "nvmlDeviceGetPcieReplayCounter", 17, 17),
        ("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration", 3, 3),
        ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", 8, 8),
        ("power_draw_instant_watts", "field:186", 345_678, 345.678),
        ("memory_temperature_celsius", "field:82", 71, 71),
        ("power_throttle_seconds_total", "field:74", 1_500_000_000, 1.5),
        ("thermal_throttle_seconds_total", "field:75", 2_500_000_000, 2.5),
        ("ecc_corrected_total", "field:3", 11, 11),
        ("ecc_uncorrected_total", "field:4", 12, 12),
        ("remapped_rows_corrected_total", "field:142", 13, 13),
        ("remapped_rows_uncorrected_total", "field:143", 14, 14),
        ("row_remap_pending", "field:144", 1, 1),
        ("row_remap_failure", "field:145", 1, 1),
        ("recovery_action", "field:230", 4, 4),
        ("graphics_engine_active_ratio", "gpm:1", 91, 0.91),
        ("sm_active_ratio", "gpm:2", 81, 0.81),
        ("sm_occupancy_ratio", "gpm:3", 31, 0.31),
        ("tensor_active_ratio", "gpm:5", 58, 0.58),
        ("dram_active_ratio", "gpm:10", 61, 0.61),
        ("fp64_active_ratio", "gpm:11", 1, 0.01),
        ("fp32_active_ratio", "gpm:12", 2, 0.02),
        ("fp16_active_ratio", "gpm:13", 3, 0.03),
        ("pcie_tx_bytes_per_second", "gpm:20", 10, 10 * 2**20),
        ("pcie_rx_bytes_per_second", "gpm:21", 11, 11 * 2**20),
        ("nvlink_rx_bytes_per_second", "gpm:60", 12, 12 * 2**20),
        ("nvlink_tx_bytes_per_second", "gpm:61", 13, 13 * 2**20),
    ],
)
def test_a_reading_is_in_base_units(opened, nvml_stub, metric, call, raw, expected):
    nvml_stub.answer(0, call, raw)
    assert opened.read(0)[metric] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "call", "raw", "expected"),
    [
        ("sm_clock_max_hertz", "nvmlDeviceGetMaxClockInfo", 1980, 1_980_000_000),
        ("pcie_link_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration", 6, 6),
        ("pcie_link_width_max", "nvmlDeviceGetMaxPcieLinkWidth", 8, 8),
    ],
)
def test_what_is_fixed_is_asked_once_and_is_in_base_units(rig, nvml_stub, metric, call, raw, expected):
    nvml_stub.answer(0, call, raw)
    rig.backend.open()
    assert rig.read(0)[metric] == expected
    asked = nvml_stub.calls(call, 0)
    assert rig.read(0)[metric] == expected
    assert nvml_stub.calls(call, 0) == asked


def test_memory_in_use_is_a_share_of_what_can_be_allocated(opened):
    found = opened.read(0)
    room = found["memory_total_bytes"] - found["memory_reserved_bytes"]
    assert found["memory_used_ratio"] == pytest.approx(found["memory_used_bytes"] / room)


def test_energy_grows_by_power_times_time(opened):
    before = opened.read(2)
    after = opened.read(2)
    while after["energy_joules_total"] - before["energy_joules_total"] < 20:
        after = opened.read(2)
    watts = after["power_draw_watts"]
    assert 100 <= watts <= 660
    assert after["energy_joules_total"] > before["energy_joules_total"]


def test_a_board_that_answers_as_always_is_told_in_the_drivers_own_bytes(opened, nvml_stub):
    before = opened.read(0)
    nvml_stub.fail(0, "nvmlDeviceGetTemperature", 10)
    during = opened.read(0)
    nvml_stub.clear()
    after = [opened.read(0) for _ in range(2)][-1]

    assert [type(readings) for readings in (before, during, after)] == [Deferred, dict, Deferred]
    assert before.keys() == during.keys() == after.keys()
    assert during["temperature_celsius"] is AbsentReason.TIMEOUT
    assert isinstance(after["nvlink_bytes_per_second"], float)


def test_power_alone_is_read_without_the_other_calls(opened, nvml_stub):
    board = opened.backend.sources()[0]
    asked, power = nvml_stub.calls(UTILIZATION, 0), nvml_stub.calls(POWER, 0)
    found = board.read_power()
    assert set(found) == {"power_draw_watts", "power_draw_instant_watts"}
    assert all(value > 0 for value in found.values())
    assert nvml_stub.calls(UTILIZATION, 0) == asked
    assert nvml_stub.calls(POWER, 0) == power + 1


def test_power_alone_of_a_lost_device_is_absent(opened, nvml_stub):
    board = opened.backend.sources()[0]
    nvml_stub.lose(0)
    assert set(board.read_power().values()) == {AbsentReason.GPU_IS_LOST}


def test_a_device_keeps_its_identity_when_the_order_changes(opened, nvml_stub):
    before = {uuid: device.pci_bus_id for uuid, device in opened.devices().items()}
    opened.backend.close()
    nvml_stub.reverse_order()
    opened.backend.open()
    devices = opened.devices()
    assert {uuid: device.pci_bus_id for uuid, device in devices.items()} == before
    assert devices[uuid_of(7)].index == 0
    assert opened.read(6)["pcie_replay_total"] == 6


def test_a_device_that_does_not_tell_its_identity_is_left_out_and_named_once(rig, nvml_stub, caplog):
    nvml_stub.fail(6, "nvmlDeviceGetHandleByIndex_v2", GPU_IS_LOST)
    rig.backend.open()
    rig.tick()
    rig.tick(60)
    assert [device.index for device in rig.devices().values()] == [0, 1, 2, 3, 4, 5, 7]
    assert caplog.text.count("device 6") == 1


@pytest.mark.parametrize(
    ("code", "words"), [(9, "modprobe"), (18, "reboot"), (4, "permission"), (999, "does not start")]
)
def test_a_driver_that_does_not_start_says_what_to_do(rig, nvml_stub, code, words):
    nvml_stub.refuse_init(code)
    with pytest.raises(BackendUnavailable, match=words):
        rig.backend.open()


def test_a_driver_without_devices_is_unavailable_and_can_be_opened_later(rig, nvml_stub):
    nvml_stub.set_devices(0)
    with pytest.raises(BackendUnavailable, match="no device"):
        rig.backend.open()
    nvml_stub.clear()
    rig.backend.open()
    assert len(rig.tick()) == 8


def test_closing_lets_the_driver_go_as_often_as_it_was_taken_up(opened, nvml_stub):
    taken, let_go = nvml_stub.calls("nvmlInitWithFlags"), nvml_stub.calls("nvmlShutdown")
    opened.backend.close()
    opened.backend.close()
    assert nvml_stub.calls("nvmlShutdown") == let_go + 1
    opened.backend.open()
    opened.backend.close()
    assert nvml_stub.calls("nvmlInitWithFlags") == taken + 1
    assert nvml_stub.calls("nvmlShutdown") == let_go + 2


def test_a_source_that_is_read_after_the_release_says_so(opened, nvml_stub):
    board = opened.backend.sources()[0]
    opened.backend.close()
    asked = nvml_stub.calls(POWER)
    assert set(board.read().values()) == {AbsentReason.RELEASED}
    assert board.processes() is None
    assert nvml_stub.calls(POWER) == asked
    assert opened.backend.sources() == []


def _child(code, environment):
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(result.stdout)


READ_ALL = """
import json
from telemetry.agent.backends.nvml.backend import NvmlBackend
backend = NvmlBackend()
backend.open()
print(json.dumps({source.device.uuid: source.read()["power_draw_watts"] for source in backend.sources()}))
"""


def test_a_process_finds_the_driver_through_the_loaders_path(nvml_stub):
    found = _child(READ_ALL, nvml_stub.environment(devices=2))
    assert len(found) == 2
    assert all(100 <= watts <= 660 for watts in found.values())


LOADED = """
import json, sys
import telemetry.agent.backends.nvml.backend
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_importing_the_backend_loads_neither_django_nor_torch():
    assert not {"django", "torch", "celery", "fleet", "numpy"} & set(_child(LOADED, {}))


NO_DRIVER = """
import json
from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.protocol import BackendUnavailable
try:
    NvmlBackend().open()
except BackendUnavailable as missing:
    print(json.dumps(str(missing)))
"""


def test_a_machine_without_a_driver_is_told_which_library_is_missing(tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")  # hides a real driver of the machine
    assert "libnvidia-ml.so.1" in _child(NO_DRIVER, {"LD_LIBRARY_PATH": str(tmp_path)})
