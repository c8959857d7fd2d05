"""The NVML backend over the real bindings and the stubbed driver library (tests/nvml_stub)."""

import json
import math
import os
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry import catalog
from telemetry.agent.backends.nvml import NvmlBackend
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.catalog import AbsentReason

POWER = "nvmlDeviceGetPowerUsage"
UTILIZATION = "nvmlDeviceGetUtilizationRates"
MEMORY = "nvmlDeviceGetMemoryInfo_v2"
GPU_IS_LOST, UNKNOWN_ERROR = 15, 999
ANSWERING_CALLS = [
    UTILIZATION,
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    MEMORY,
    POWER,
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetFanSpeed",
]
FIELDS = ["field:82", "field:3", "field:4"]


@pytest.fixture
def backend(nvml_stub):
    backend = NvmlBackend()
    yield backend
    nvml_stub.clear()
    backend.close()


@pytest.fixture
def opened(backend):
    backend.open()
    return backend


def readings(backend, number):
    """Return the readings of the stub's device, which its UUID names."""
    uuid = f"GPU-5e9a000{number:x}-"
    return next(r.readings for r in backend.read() if r.device.uuid.startswith(uuid))


def test_it_finds_eight_devices_by_uuid(opened):
    devices = [reading.device for reading in opened.read()]
    assert len({device.uuid for device in devices}) == 8
    assert devices[0].uuid == "GPU-5e9a0000-5747-4a54-9bb1-000000001000"
    assert devices[0].model == "NVIDIA H100 80GB HBM3"
    assert devices[0].pci_bus_id == "00000000:07:00.0"
    assert [device.index for device in devices] == list(range(8))


def test_it_names_the_driver_and_the_cuda_version(opened):
    assert opened.software() == {"driver": "580.105.08", "cuda": "13.0"}


def test_a_container_without_libcuda_is_read_all_the_same(backend, nvml_stub):
    nvml_stub.fail("*", "nvmlSystemGetCudaDriverVersion_v2", 12)
    backend.open()
    assert backend.software() == {"driver": "580.105.08"}
    assert len(backend.read()) == 8


def test_every_reading_is_in_base_units(opened, nvml_stub):
    nvml_stub.answer(0, POWER, 345_678)
    nvml_stub.answer(0, "nvmlDeviceGetTotalEnergyConsumption", 9_876_543)
    nvml_stub.answer(0, UTILIZATION, 42)
    nvml_stub.answer(0, "nvmlDeviceGetClockInfo", 1755)
    found = readings(opened, 0)
    assert found["power_draw_watts"] == pytest.approx(345.678)
    assert found["energy_joules_total"] == pytest.approx(9876.543)
    assert found["gpu_utilization_ratio"] == pytest.approx(0.42)
    assert found["sm_clock_hertz"] == 1_755_000_000
    assert found["memory_total_bytes"] == 80 * 2**30


def test_it_reads_every_metric_of_the_catalogue(opened):
    assert set(readings(opened, 0)) == set(catalog.BY_NAME)


def test_fields_are_read_by_their_own_type(opened):
    found = readings(opened, 5)
    assert found["ecc_corrected_total"] == 8
    assert found["ecc_uncorrected_total"] == 0
    assert 40 <= found["memory_temperature_celsius"] <= 85


def test_energy_grows_by_power_times_time(opened):
    before, started = readings(opened, 2)["energy_joules_total"], time.monotonic()
    deadline = started + 10
    while readings(opened, 2)["energy_joules_total"] - before < 50 and time.monotonic() < deadline:
        pass
    found, elapsed = readings(opened, 2), time.monotonic() - started
    mean_watts = (found["energy_joules_total"] - before) / elapsed
    assert mean_watts == pytest.approx(found["power_draw_watts"], rel=0.2)


def test_of_a_lost_device_nothing_counts_although_some_calls_still_answer(opened, nvml_stub):
    nvml_stub.lose(3)
    assert set(readings(opened, 3).values()) == {AbsentReason.GPU_IS_LOST}
    assert readings(opened, 4)["power_draw_watts"] > 0


def test_a_device_that_is_lost_before_the_start_is_shown_as_lost(backend, nvml_stub):
    nvml_stub.lose(3)
    backend.open()
    assert len(backend.read()) == 8
    assert set(readings(backend, 3).values()) == {AbsentReason.GPU_IS_LOST}


def test_a_lost_device_is_recognised_by_a_field_alone(opened, nvml_stub):
    nvml_stub.fail(3, "field:82", GPU_IS_LOST)
    assert set(readings(opened, 3).values()) == {AbsentReason.GPU_IS_LOST}


def test_a_device_that_comes_back_is_read_again_by_its_uuid(opened, nvml_stub):
    nvml_stub.lose(3)
    opened.read()
    nvml_stub.clear()
    asked = nvml_stub.calls("nvmlDeviceGetHandleByUUID", 3)
    assert readings(opened, 3)["power_draw_watts"] > 0
    assert nvml_stub.calls("nvmlDeviceGetHandleByUUID", 3) == asked + 1


def test_a_device_that_was_removed_stays_listed_as_lost_after_opening_again(opened, nvml_stub):
    opened.close()
    nvml_stub.remove(2)
    opened.open()
    assert set(readings(opened, 2).values()) == {AbsentReason.GPU_IS_LOST}


def test_what_a_device_does_not_support_is_absent_and_not_asked_again(backend, nvml_stub):
    nvml_stub.unsupport(2, POWER)
    backend.open()
    asked = nvml_stub.calls(POWER, 2)
    assert readings(backend, 2)["power_draw_watts"] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(POWER, 2) == asked
    assert nvml_stub.calls(POWER, 1) > asked


def test_a_field_that_a_device_does_not_support_is_not_asked_again(backend, nvml_stub):
    nvml_stub.unsupport(2, "field:82")
    backend.open()
    asked = nvml_stub.calls("field:82", 2)
    found = readings(backend, 2)
    assert nvml_stub.calls("field:82", 2) == asked
    assert found["memory_temperature_celsius"] is AbsentReason.NOT_SUPPORTED
    assert found["ecc_corrected_total"] == 5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, AbsentReason.NOT_SUPPORTED),
        (4, AbsentReason.NO_PERMISSION),
        (10, AbsentReason.TIMEOUT),
        (13, AbsentReason.NOT_SUPPORTED),
        (16, AbsentReason.RESET_REQUIRED),
        (UNKNOWN_ERROR, AbsentReason.UNKNOWN),
        (4711, AbsentReason.UNKNOWN),
    ],
)
def test_a_drivers_error_becomes_a_reason(opened, nvml_stub, code, reason):
    nvml_stub.fail(1, POWER, code)
    found = readings(opened, 1)
    assert found["power_draw_watts"] is reason
    assert found["power_limit_watts"] == 700


def test_a_device_that_needs_a_reset_says_so(opened, nvml_stub):
    nvml_stub.require_reset(4)
    assert readings(opened, 4)["temperature_celsius"] is AbsentReason.RESET_REQUIRED


@pytest.mark.parametrize("call", [*ANSWERING_CALLS, *FIELDS])
def test_a_sentinel_is_never_a_value(backend, nvml_stub, call):
    nvml_stub.answer(5, "nvmlDeviceGetFanSpeed", 40)  # the stub's boards have a fan only where told
    backend.open()
    valid = [name for name, value in readings(backend, 5).items() if not isinstance(value, AbsentReason)]
    nvml_stub.write([f"answer 5 {call} {2**64 - 1}", "answer 5 nvmlDeviceGetFanSpeed 40"])
    found = readings(backend, 5)
    changed = [name for name in valid if found[name] is AbsentReason.UNKNOWN]
    assert changed
    assert all(found[name] < 2**50 for name in valid if name not in changed)


def test_a_field_that_is_no_number_is_absent(opened, nvml_stub):
    nan_bits = struct.unpack("<Q", struct.pack("<d", math.nan))[0]
    nvml_stub.write([f"answer 0 field:82 {nan_bits}", "type 0 field:82 0"])
    assert readings(opened, 0)["memory_temperature_celsius"] is AbsentReason.UNKNOWN


def test_memory_at_zero_degrees_is_a_board_without_the_sensor(opened, nvml_stub):
    nvml_stub.answer(0, "field:82", 0)
    assert readings(opened, 0)["memory_temperature_celsius"] is AbsentReason.UNKNOWN


def test_a_driver_without_the_newer_memory_call_is_named(backend, nvml_stub):
    nvml_stub.unsupport("*", MEMORY)
    backend.open()
    found = readings(backend, 0)
    assert found["memory_total_bytes"] == 80 * 2**30
    assert found["memory_reserved_bytes"] is AbsentReason.NOT_SUPPORTED
    assert "reserves" in backend.software()["nvml_memory"]


def test_a_driver_without_event_reasons_is_asked_for_throttle_reasons(backend, nvml_stub):
    nvml_stub.fail("*", "nvmlDeviceGetCurrentClocksEventReasons", 13)
    nvml_stub.answer("*", "nvmlDeviceGetCurrentClocksThrottleReasons", 0x20)
    backend.open()
    assert readings(backend, 0)["clock_event_reasons"] == 0x20


def test_a_device_keeps_its_identity_when_the_order_changes(opened, nvml_stub):
    before = {r.device.uuid: r.device.pci_bus_id for r in opened.read()}
    opened.close()
    nvml_stub.reverse_order()
    opened.open()
    devices = [reading.device for reading in opened.read()]
    assert {device.uuid: device.pci_bus_id for device in devices} == before
    assert {device.index: device.uuid[11] for device in devices}[0] == "7"
    assert readings(opened, 6)["pcie_replay_total"] == 6


def test_a_slow_device_is_left_alone_for_a_while_so_that_the_others_are_read(nvml_stub):
    skipped_seconds = [0.0]
    backend = NvmlBackend(clock=lambda: time.monotonic() + skipped_seconds[0])
    backend.open()
    nvml_stub.slow(1, "nvmlDeviceGetTemperature", 400)
    backend.read()
    assert set(readings(backend, 1).values()) == {AbsentReason.TIMEOUT}
    assert readings(backend, 0)["temperature_celsius"] > 0
    nvml_stub.clear()
    skipped_seconds[0] = 10.0
    assert readings(backend, 1)["temperature_celsius"] > 0
    backend.close()


def test_a_device_that_does_not_tell_its_identity_is_left_out(backend, nvml_stub, caplog):
    nvml_stub.fail(6, "nvmlDeviceGetHandleByIndex_v2", GPU_IS_LOST)
    backend.open()
    assert [reading.device.index for reading in backend.read()] == [0, 1, 2, 3, 4, 5, 7]
    assert "device 6" in caplog.text


@pytest.mark.parametrize(
    ("code", "words"), [(9, "modprobe"), (18, "reboot"), (4, "permission"), (999, "does not start")]
)
def test_a_driver_that_does_not_start_says_what_to_do(backend, nvml_stub, code, words):
    nvml_stub.refuse_init(code)
    with pytest.raises(BackendUnavailable, match=words):
        backend.open()


def test_a_driver_without_devices_is_unavailable_and_can_be_opened_later(backend, nvml_stub):
    nvml_stub.set_devices(0)
    with pytest.raises(BackendUnavailable, match="no device"):
        backend.open()
    nvml_stub.clear()
    backend.open()
    assert len(backend.read()) == 8


def test_closing_lets_the_driver_go_once(opened, nvml_stub):
    before = nvml_stub.calls("nvmlShutdown")
    opened.close()
    opened.close()
    assert nvml_stub.calls("nvmlShutdown") == before + 1


def _faults():
    codes = st.sampled_from([0, 1, 2, 3, 4, 6, 10, 13, 15, 16, 25, 999]) | st.integers(1, 2000)
    raws = st.sampled_from([0, 1, 100, 101, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)
    call = st.sampled_from([*ANSWERING_CALLS, *FIELDS, "nvmlDeviceGetFieldValues", "nvmlDeviceGetHandleByUUID"])
    return st.lists(
        st.builds("fail 0 {} {}".format, call, codes)
        | st.builds("answer 0 {} {}".format, st.sampled_from([*ANSWERING_CALLS, *FIELDS]), raws)
        | st.builds("type 0 {} {}".format, st.sampled_from(FIELDS), st.integers(0, 9)),
        max_size=12,
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=_faults())
def test_whatever_the_driver_answers_a_reading_is_believable_or_absent(opened, nvml_stub, lines):
    nvml_stub.write(lines)
    found = readings(opened, 0)
    assert set(found) == set(catalog.BY_NAME)
    for name, value in found.items():
        if not isinstance(value, AbsentReason):
            assert math.isfinite(value)
            assert 0 <= value / catalog.BY_NAME[name].resolution <= 2**53
            assert not (name.endswith("utilization_ratio") and value > 1)


def _child(code, environment):
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(result.stdout)


READ_ALL = """
import json
from telemetry.agent.backends.nvml import NvmlBackend
backend = NvmlBackend()
backend.open()
print(json.dumps({r.device.uuid: r.readings["power_draw_watts"] for r in backend.read()}))
"""


def test_a_process_finds_the_driver_through_the_loaders_path(nvml_stub):
    found = _child(READ_ALL, nvml_stub.environment(devices=2))
    assert len(found) == 2
    assert all(100 <= watts <= 660 for watts in found.values())


LOADED = """
import json, sys
import telemetry.agent.backends.nvml
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_importing_the_backend_loads_neither_django_nor_torch():
    assert not {"django", "torch", "celery", "fleet"} & set(_child(LOADED, {}))


NO_DRIVER = """
import json
from telemetry.agent.backends.nvml import NvmlBackend
from telemetry.agent.backends.protocol import BackendUnavailable
try:
    NvmlBackend().open()
except BackendUnavailable as missing:
    print(json.dumps(str(missing)))
"""


def test_a_machine_without_a_driver_is_told_which_library_is_missing(tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")  # hides a real driver of the machine
    assert "libnvidia-ml.so.1" in _child(NO_DRIVER, {"LD_LIBRARY_PATH": str(tmp_path)})
