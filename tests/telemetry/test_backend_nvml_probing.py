"""What the NVML backend asks, and how often: probing once, GPM's two samples, NVLink's slow counters, what a tick costs."""

import gc

import pytest

from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import ANSWERING_CALLS, FIELDS, GPU_IS_LOST, MEMORY, POWER, POWER_CALL, Rig, uuid_of

LINK_ERRORS = "nvmlDeviceGetNvLinkErrorCounter"
GPM_METRIC = "tensor_active_ratio"


@pytest.fixture
def paced(nvml_stub):
    """A backend that keeps what changes slowly, as the agent's does."""
    rig = Rig(kept_seconds=5.0)
    yield rig
    rig.backend.close()


def test_what_a_device_does_not_support_is_absent_and_not_asked_again(rig, nvml_stub):
    nvml_stub.unsupport(2, POWER)
    nvml_stub.unsupport(2, POWER_CALL)  # which is asked in its place
    rig.backend.open()
    rig.tick()
    asked, of_another = nvml_stub.calls(POWER, 2), nvml_stub.calls(POWER, 1)
    assert rig.read(2)["power_draw_watts"] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(POWER, 2) == asked
    assert nvml_stub.calls(POWER, 1) == of_another + 1


def test_a_field_that_a_device_does_not_support_is_not_asked_again(rig, nvml_stub):
    nvml_stub.unsupport(2, "field:82")
    rig.backend.open()
    rig.tick()
    asked = nvml_stub.calls("field:82", 2)
    found = rig.read(2)
    assert nvml_stub.calls("field:82", 2) == asked
    assert found["memory_temperature_celsius"] is AbsentReason.NOT_SUPPORTED
    assert found["ecc_corrected_total"] == 5


def test_a_device_with_one_of_the_two_counters_of_links_has_no_rate(rig, nvml_stub):
    nvml_stub.unsupport(2, "field:139")
    rig.backend.open()
    rig.tick()
    found = rig.read(2)
    assert found["nvlink_bytes_per_second"] is AbsentReason.NOT_SUPPORTED
    assert found["power_draw_watts"] > 0


def test_a_call_that_is_refused_later_is_dropped_at_the_next_listing(opened, nvml_stub):
    nvml_stub.unsupport(2, "nvmlDeviceGetEncoderUtilization")
    opened.tick()
    opened.tick()
    asked = nvml_stub.calls("nvmlDeviceGetEncoderUtilization", 2)
    assert opened.read(2)["encoder_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls("nvmlDeviceGetEncoderUtilization", 2) == asked


def test_what_was_refused_is_asked_again_after_opening_again(rig, nvml_stub):
    nvml_stub.unsupport(2, POWER)
    nvml_stub.unsupport(2, POWER_CALL)  # which is asked in its place
    rig.backend.open()
    rig.tick()
    nvml_stub.clear()
    rig.backend.close()
    rig.backend.open()
    assert rig.read(2)["power_draw_watts"] > 0


def test_a_driver_without_field_values_gives_the_rest(rig, nvml_stub):
    nvml_stub.fail("*", "nvmlDeviceGetFieldValues", 13)
    rig.backend.open()
    found = rig.read(0)
    assert found["ecc_corrected_total"] is AbsentReason.NOT_SUPPORTED
    assert found["nvlink_bytes_per_second"] is AbsentReason.NOT_SUPPORTED
    assert found["power_draw_watts"] > 0


def test_a_tick_makes_one_call_of_each_kind_for_a_device(opened, nvml_stub):
    calls = [*ANSWERING_CALLS, "nvmlDeviceGetFieldValues", "nvmlGpmSampleGet", "nvmlGpmMetricsGet", *FIELDS]
    before = {call: nvml_stub.calls(call, 0) for call in calls}
    opened.tick()
    made = {call: nvml_stub.calls(call, 0) - before[call] for call in calls}
    assert made.pop("nvmlDeviceGetClockInfo") == 2  # of the SMs and of the memory
    assert made.pop("nvmlDeviceGetFieldValues") == 2  # of what is asked each tick and of what is slow
    not_each_tick = {"nvmlDeviceGetFanSpeed", *(call for call in calls if "Max" in call)}
    assert {call for call, times in made.items() if times == 0} == not_each_tick
    assert {times for call, times in made.items() if call not in not_each_tick} == {1}


def test_what_is_kept_is_asked_once_in_five_ticks_what_is_slow_once_in_ten_and_both_stand_between(paced, nvml_stub):
    rig = paced
    rig.backend.open()
    rig.tick()
    slow = ["nvmlDeviceGetEnforcedPowerLimit", "field:230"]
    before = [nvml_stub.calls(call, 0) for call in (MEMORY, *slow)]
    asked = nvml_stub.calls(POWER, 0)
    found = [rig.read(0) for _ in range(10)]
    assert [nvml_stub.calls(call, 0) - n for call, n in zip((MEMORY, *slow), before, strict=True)] == [2, 1, 1]
    assert nvml_stub.calls(POWER, 0) == asked + 10
    assert all(readings["memory_used_bytes"] > 0 and readings["power_limit_watts"] > 0 for readings in found)
    assert len({tuple(readings) for readings in found[1:]}) == 1


@pytest.mark.parametrize(("call", "pace"), [("nvmlDeviceGetEnforcedPowerLimit", 10), (MEMORY, 5)])
def test_a_kept_call_that_begins_to_fail_shows_within_its_pace(paced, nvml_stub, call, pace):
    rig = paced
    rig.backend.open()
    assert rig.read(0)["power_draw_watts"] > 0
    nvml_stub.fail(0, call, 999)
    found = [AbsentReason.UNKNOWN in rig.read(0).values() for _ in range(pace)]
    assert found[-1]
    nvml_stub.clear()
    assert not [AbsentReason.UNKNOWN in rig.read(0).values() for _ in range(pace)][-1]


def test_a_loss_that_only_a_kept_call_tells_takes_all_readings_within_its_pace(paced, nvml_stub):
    rig = paced
    rig.backend.open()
    assert rig.read(0)["power_draw_watts"] > 0
    nvml_stub.fail(0, "nvmlDeviceGetEnforcedPowerLimit", GPU_IS_LOST)
    assert AbsentReason.GPU_IS_LOST in [rig.read(0)["power_draw_watts"] for _ in range(10)]


def test_gpm_metrics_need_a_sample_before(rig):
    rig.backend.open()
    assert GPM_METRIC not in rig.read(0)
    assert 0 <= rig.read(0)[GPM_METRIC] <= 1


def test_gpm_metrics_stand_for_the_time_since_the_sample_before(opened, nvml_stub):
    asked = nvml_stub.calls("nvmlGpmMetricsGet", 0)
    assert GPM_METRIC not in opened.read(0, seconds=0.05)  # the driver's own samples are 0.1 s apart
    assert GPM_METRIC in opened.read(0, seconds=0.1)
    assert GPM_METRIC not in opened.read(0, seconds=60)  # a mean over a minute is not this tick's
    assert nvml_stub.calls("nvmlGpmMetricsGet", 0) == asked + 1


def test_a_board_before_hopper_has_no_gpm_and_is_not_asked_each_tick(rig, nvml_stub):
    nvml_stub.make_a100(1)
    rig.backend.open()
    rig.tick()
    asked = [nvml_stub.calls(call, 1) for call in ("nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet")]
    found = rig.tick()
    assert found[uuid_of(1)][GPM_METRIC] is AbsentReason.NOT_SUPPORTED
    assert found[uuid_of(1)]["recovery_action"] is AbsentReason.NOT_SUPPORTED
    assert found[uuid_of(0)][GPM_METRIC] >= 0
    assert [nvml_stub.calls(call, 1) for call in ("nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet")] == asked
    assert rig.devices()[uuid_of(1)].model == "NVIDIA A100-SXM4-80GB"


def test_gpm_samples_are_given_back_with_the_driver(rig, nvml_stub):
    held = nvml_stub.gpm_samples()
    rig.backend.open()
    rig.tick()
    assert nvml_stub.gpm_samples() == held + 16
    nvml_stub.lose(3)
    rig.tick()
    nvml_stub.clear()
    rig.tick()
    rig.tick()
    assert nvml_stub.gpm_samples() == held + 16
    rig.backend.close()
    assert nvml_stub.gpm_samples() == held


def test_nvlink_errors_are_summed_over_the_links(opened):
    found = opened.read(0)
    links = sum(range(18))
    assert found["nvlink_replay_errors_total"] == links
    assert found["nvlink_recovery_errors_total"] == links + 18
    assert found["nvlink_crc_flit_errors_total"] == links + 2 * 18
    assert found["nvlink_crc_data_errors_total"] == links + 3 * 18
    assert found["nvlink_errors_total"] == 4 * links + 6 * 18


def test_nvlink_errors_are_asked_every_minute(opened, nvml_stub):
    before = nvml_stub.calls(LINK_ERRORS, 0)
    for _ in range(120):
        assert opened.read(0)["nvlink_errors_total"] > 0
    assert nvml_stub.calls(LINK_ERRORS, 0) - before == 2 * 18 * 4


def test_boards_ask_for_nvlink_errors_at_different_ticks(opened, nvml_stub):
    made = []
    for _ in range(30):
        before = nvml_stub.calls(LINK_ERRORS)
        opened.tick()
        made.append(nvml_stub.calls(LINK_ERRORS) - before)
    assert max(made) <= 2 * 18 * 4
    assert sum(made) == 8 * 18 * 4


def test_without_one_link_there_is_no_sum_which_would_look_like_a_new_beginning(opened, nvml_stub):
    nvml_stub.fail(0, LINK_ERRORS, 999)
    found = opened.read(0, seconds=30)
    assert found["nvlink_errors_total"] is AbsentReason.UNKNOWN
    assert found["nvlink_replay_errors_total"] is AbsentReason.UNKNOWN


def test_a_board_without_nvlink_says_so(rig, nvml_stub):
    for call in (LINK_ERRORS, "field:138", "field:139"):
        nvml_stub.unsupport(0, call)
    rig.backend.open()
    found = rig.read(0)
    assert found["nvlink_errors_total"] is AbsentReason.NOT_SUPPORTED
    assert found["nvlink_bytes_per_second"] is AbsentReason.NOT_SUPPORTED


def test_the_nvlink_rate_is_that_of_both_directions(opened, nvml_stub):
    nvml_stub.write(["answer 0 field:138 1000", "answer 0 field:139 2000"])
    opened.tick()
    nvml_stub.write(["answer 0 field:138 5000", "answer 0 field:139 6000"])
    assert opened.read(0, seconds=4)["nvlink_bytes_per_second"] == pytest.approx(8000 * 1024 / 4)


def test_a_type_that_the_header_does_not_name_is_no_number(opened, nvml_stub):
    nvml_stub.write(["type 0 field:3 9"])
    assert opened.read(0)["ecc_corrected_total"] is AbsentReason.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "bits", "expected"), [(1, 2**32 + 7, 7), (6, 2**16 + 8, 8), (4, 9, 9), (5, 10, 10), (2, 11, 11)]
)
def test_fields_are_read_by_their_own_type(opened, nvml_stub, kind, bits, expected):
    nvml_stub.write([f"answer 0 field:3 {bits}", f"type 0 field:3 {kind}"])
    assert opened.read(0)["ecc_corrected_total"] == expected


def test_a_negative_count_is_no_value(opened, nvml_stub):
    nvml_stub.write([f"answer 0 field:3 {2**64 - 5}", "type 0 field:3 4"])
    assert opened.read(0)["ecc_corrected_total"] is AbsentReason.UNKNOWN


def test_a_call_about_gpm_that_failed_is_made_again_a_minute_later(rig, nvml_stub):
    nvml_stub.add("timeout 0 nvmlGpmQueryDeviceSupport")
    rig.backend.open()
    assert rig.read(0)[GPM_METRIC] is AbsentReason.TIMEOUT
    nvml_stub.clear()
    assert rig.read(0)[GPM_METRIC] is AbsentReason.TIMEOUT
    rig.tick(60)
    assert rig.read(0)[GPM_METRIC] >= 0


def test_nvlinks_that_did_not_answer_are_looked_for_a_minute_later(rig, nvml_stub):
    nvml_stub.add(f"timeout 0 {LINK_ERRORS}")
    rig.backend.open()
    assert rig.read(0)["nvlink_errors_total"] is AbsentReason.TIMEOUT
    nvml_stub.clear()
    assert rig.read(0)["nvlink_errors_total"] is AbsentReason.TIMEOUT
    rig.tick(60)
    assert rig.read(0)["nvlink_errors_total"] == 4 * sum(range(18)) + 6 * 18


def test_reading_and_listing_leave_nothing_to_the_garbage_collector(paced):
    paced.backend.open()
    paced.tick()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(20):  # devices are listed each thirty seconds
            paced.tick(10)
            paced.backend.topology()
            for source in paced.backend.sources():
                source.processes()
        gc.collect()
        left = [each for each in gc.garbage if type(each).__module__.startswith(("pynvml", "telemetry"))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert left == []
