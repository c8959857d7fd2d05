"""The NVML backend under faults: lost, removed and changed devices, refused calls, an unloaded driver, a late board."""

import pytest

from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import (
    ANSWERING_CALLS,
    FIELDS,
    GPM,
    GPU_IS_LOST,
    MEMORY,
    POWER,
    POWER_CALL,
    UTILIZATION,
    reasons_of,
    uuid_of,
)

LOST, RESET = {AbsentReason.GPU_IS_LOST}, {AbsentReason.RESET_REQUIRED}


def valid(readings):
    return {name for name, value in readings.items() if not isinstance(value, AbsentReason)}


def test_of_a_lost_device_nothing_counts_although_some_calls_still_answer(opened, nvml_stub):
    nvml_stub.lose(3)
    found = opened.tick()
    assert reasons_of(found[uuid_of(3)]) == LOST
    assert found[uuid_of(4)]["power_draw_watts"] > 0


@pytest.mark.parametrize("call", ["field:82", "gpm:5", "nvmlDeviceGetTemperature", "nvmlGpmSampleGet", POWER])
@pytest.mark.parametrize(("code", "reasons"), [(15, LOST), (16, RESET)])
def test_one_answer_is_enough_to_know_that_nothing_of_the_device_counts(opened, nvml_stub, call, code, reasons):
    nvml_stub.fail(3, call, code)
    assert reasons_of(opened.read(3)) == reasons


def test_a_device_that_needs_a_reset_says_so_in_all_readings(opened, nvml_stub):
    nvml_stub.require_reset(4)
    assert reasons_of(opened.read(4)) == RESET


def test_a_device_that_is_lost_before_the_start_is_shown_as_lost(rig, nvml_stub):
    nvml_stub.lose(3)
    rig.backend.open()
    found = rig.tick()
    assert len(found) == 8
    assert reasons_of(found[uuid_of(3)]) == LOST


def test_a_lost_device_costs_a_few_calls_a_tick(opened, nvml_stub):
    nvml_stub.lose(3)
    opened.tick()
    opened.tick()  # the listing that its loss calls for
    names = [*ANSWERING_CALLS, "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetFieldValues", "nvmlGpmSampleGet"]
    before = sum(nvml_stub.calls(name, 3) for name in names)
    opened.tick()
    assert sum(nvml_stub.calls(name, 3) for name in names) - before <= 2


def test_a_device_that_comes_back_is_read_again_by_its_uuid(opened, nvml_stub):
    nvml_stub.lose(3)
    opened.tick()
    opened.tick()
    nvml_stub.clear()
    asked = nvml_stub.calls("nvmlDeviceGetHandleByUUID", 3)
    assert opened.read(3)["power_draw_watts"] > 0
    assert nvml_stub.calls("nvmlDeviceGetHandleByUUID", 3) == asked + 1


def test_a_device_that_was_removed_stays_listed_as_lost_after_opening_again(opened, nvml_stub):
    opened.backend.close()
    nvml_stub.remove(2)
    opened.backend.open()
    assert reasons_of(opened.read(2)) == LOST


def test_a_device_that_is_removed_while_running_is_lost_at_the_next_listing(opened, nvml_stub):
    nvml_stub.remove(2)  # its handle goes on answering
    assert reasons_of(opened.read(2, seconds=31)) == LOST
    assert opened.read(1)["power_draw_watts"] > 0


def test_a_device_that_comes_later_is_found_at_the_next_listing(rig, nvml_stub):
    nvml_stub.set_devices(7)
    rig.backend.open()
    nvml_stub.clear()
    assert len(rig.tick()) == 7
    assert rig.read(7, seconds=31)["power_draw_watts"] > 0


def test_a_board_that_only_the_kernel_knows_has_the_driver_opened_again(rig, nvml_stub, tmp_path):
    (tmp_path / "gpus" / "0000:07:00.0").mkdir(parents=True)
    rig.backend.open()
    taken = nvml_stub.calls("nvmlInitWithFlags")
    rig.tick(31)
    assert nvml_stub.calls("nvmlInitWithFlags") == taken
    (tmp_path / "gpus" / "0000:18:00.0").mkdir()
    assert len(rig.tick(31)) == 8
    assert nvml_stub.calls("nvmlInitWithFlags") == taken + 1
    assert nvml_stub.calls("nvmlShutdown") > 0


def test_devices_are_not_listed_each_tick(opened, nvml_stub):
    listed = nvml_stub.calls("nvmlDeviceGetCount_v2")
    for _ in range(10):
        opened.tick()
    assert nvml_stub.calls("nvmlDeviceGetCount_v2") == listed


def test_a_device_that_answers_strangely_has_the_devices_listed_at_once_and_only_once(opened, nvml_stub):
    listed = nvml_stub.calls("nvmlDeviceGetCount_v2")
    nvml_stub.lose(3)
    for _ in range(5):
        opened.tick()
    assert nvml_stub.calls("nvmlDeviceGetCount_v2") == listed + 1


def test_a_handle_that_has_become_invalid_is_fetched_again_once(opened, nvml_stub):
    nvml_stub.fail(1, "nvmlDeviceGetTemperature", 2)
    asked = nvml_stub.calls("nvmlDeviceGetHandleByUUID", 1) + nvml_stub.calls("nvmlDeviceGetHandleByIndex_v2", 1)
    for _ in range(5):
        assert opened.read(1)["temperature_celsius"] is AbsentReason.UNKNOWN
    again = nvml_stub.calls("nvmlDeviceGetHandleByUUID", 1) + nvml_stub.calls("nvmlDeviceGetHandleByIndex_v2", 1)
    assert again == asked + 1


def test_a_driver_that_was_unloaded_is_opened_again_and_its_counters_begin_anew(opened, nvml_stub):
    before = opened.read(0)["energy_joules_total"]
    nvml_stub.unload()
    assert reasons_of(opened.read(0)) == {AbsentReason.DRIVER_AWAY}
    nvml_stub.clear()
    after = opened.read(0)
    assert after["power_draw_watts"] > 0
    assert 0 <= after["energy_joules_total"] < before


def test_while_the_driver_is_away_the_backend_is_unavailable(opened, nvml_stub):
    nvml_stub.unload()
    opened.tick()
    with pytest.raises(BackendUnavailable, match="not loaded"):
        opened.backend.sources()
    nvml_stub.clear()
    opened.backend.open()
    assert len(opened.tick()) == 8


def test_the_traffic_of_a_driver_that_began_anew_is_no_rate(opened, nvml_stub):
    nvml_stub.write(["answer 0 field:138 5000", "answer 0 field:139 5000"])
    opened.tick()
    nvml_stub.write(["answer 0 field:138 10", "answer 0 field:139 10"])
    assert "nvlink_bytes_per_second" not in opened.read(0)
    nvml_stub.write(["answer 0 field:138 30", "answer 0 field:139 10"])
    assert opened.read(0, seconds=2)["nvlink_bytes_per_second"] == 20 * 1024 / 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, AbsentReason.NOT_SUPPORTED),
        (4, AbsentReason.NO_PERMISSION),
        (10, AbsentReason.TIMEOUT),
        (13, AbsentReason.NOT_SUPPORTED),
        (999, AbsentReason.UNKNOWN),
        (4711, AbsentReason.UNKNOWN),
    ],
)
@pytest.mark.parametrize(
    ("metric", "call"),
    [("power_draw_watts", POWER), ("recovery_action", "field:230"), ("tensor_active_ratio", "gpm:5")],
)
def test_a_drivers_error_becomes_a_reason(opened, nvml_stub, metric, call, code, reason):
    nvml_stub.fail(1, call, code)
    found = opened.read(1)
    assert found[metric] is reason
    assert found["power_limit_watts"] == 700


@pytest.mark.parametrize("call", [*ANSWERING_CALLS, *FIELDS, *GPM])
def test_a_sentinel_is_never_a_value(rig, nvml_stub, call):
    fan = "answer 5 nvmlDeviceGetFanSpeed 40"  # the stub's boards have a fan only where told
    nvml_stub.write([fan])
    rig.backend.open()
    rig.tick()
    usual = valid(rig.read(5))
    nvml_stub.write([f"answer 5 {call} {2**64 - 1}", fan])
    rig.backend.close()
    rig.backend.open()
    rig.tick()
    found = rig.read(5)
    refused = {name for name in usual if found.get(name) is AbsentReason.UNKNOWN}
    assert refused
    assert all(found[name] < 2**53 for name in usual - refused)


@pytest.mark.parametrize(("metric", "call"), [("memory_temperature_celsius", "field:82"), ("sm_active_ratio", "gpm:2")])
def test_what_is_no_number_is_absent(opened, nvml_stub, metric, call):
    nvml_stub.say_nan(0, call)
    found = opened.read(0)
    assert found[metric] is AbsentReason.UNKNOWN
    assert found["sm_occupancy_ratio"] >= 0


def test_memory_at_zero_degrees_is_a_board_without_the_sensor(opened, nvml_stub):
    nvml_stub.answer(0, "field:82", 0)
    assert opened.read(0)["memory_temperature_celsius"] is AbsentReason.UNKNOWN


def test_a_driver_without_the_newer_memory_call_is_named(rig, nvml_stub):
    nvml_stub.unsupport("*", MEMORY)
    rig.backend.open()
    found = rig.read(0)
    assert found["memory_total_bytes"] == 80 * 2**30
    assert found["memory_reserved_bytes"] is AbsentReason.NOT_SUPPORTED
    assert found["memory_used_ratio"] == pytest.approx(found["memory_used_bytes"] / found["memory_total_bytes"])
    assert "reserves" in rig.backend.software()["nvml_memory"]


def test_a_driver_without_event_reasons_is_asked_for_throttle_reasons(rig, nvml_stub):
    nvml_stub.fail("*", "nvmlDeviceGetCurrentClocksEventReasons", 13)
    nvml_stub.answer("*", "nvmlDeviceGetCurrentClocksThrottleReasons", 0x20)
    rig.backend.open()
    assert rig.read(0)["clock_event_reasons"] == 0x20


@pytest.mark.parametrize(
    ("metric", "refused", "asked", "divisor"),
    [
        ("power_draw_watts", POWER, POWER_CALL, 1000),
        ("energy_joules_total", "field:83", "nvmlDeviceGetTotalEnergyConsumption", 1000),
        ("pcie_replay_total", "nvmlDeviceGetPcieReplayCounter", "field:94", 1),
    ],
)
def test_what_is_refused_one_way_is_asked_the_other(rig, nvml_stub, metric, refused, asked, divisor):
    nvml_stub.unsupport(0, refused)
    nvml_stub.answer(0, asked, 4000)
    rig.backend.open()
    assert rig.read(0)[metric] == 4000 / divisor


def test_a_lost_device_is_read_again_after_a_reset(opened, nvml_stub):
    nvml_stub.fail(1, UTILIZATION, GPU_IS_LOST)
    opened.tick()
    opened.backend.close()
    nvml_stub.clear()
    opened.backend.open()
    assert opened.read(1)["gpu_utilization_ratio"] >= 0
