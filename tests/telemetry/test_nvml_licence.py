"""The vGPU licence of a guest, through the real bindings and the stubbed driver (tests/nvml_stub)."""

import pytest

from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import reasons_of

LICENSABLE = "nvmlDeviceGetGridLicensableFeatures_v4"
METRIC = "vgpu_licensed"


@pytest.mark.parametrize("state", [0, 1])
def test_a_guest_tells_whether_one_of_its_features_is_licensed(rig, nvml_stub, state):
    nvml_stub.answer(0, LICENSABLE, state)
    rig.backend.open()
    assert rig.read(0)[METRIC] == state


def test_a_board_that_needs_no_licence_is_not_unlicensed_and_not_asked_again(opened, nvml_stub):
    asked = nvml_stub.calls(LICENSABLE, 0)
    assert opened.read(0, seconds=61)[METRIC] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(LICENSABLE, 0) == asked


def test_a_driver_that_does_not_know_the_call_is_not_asked_again(rig, nvml_stub):
    nvml_stub.fail("*", LICENSABLE, 13)
    rig.backend.open()
    rig.tick()
    asked = nvml_stub.calls(LICENSABLE, 0)
    assert rig.read(0, seconds=61)[METRIC] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(LICENSABLE, 0) == asked


def test_a_guest_is_asked_once_a_minute(rig, nvml_stub):
    nvml_stub.answer(0, LICENSABLE, 0)
    rig.backend.open()
    rig.tick()
    asked = nvml_stub.calls(LICENSABLE, 0)
    nvml_stub.write([f"answer 0 {LICENSABLE} 1"])
    assert rig.read(0, seconds=20)[METRIC] == 0
    assert rig.read(0, seconds=41)[METRIC] == 1
    assert nvml_stub.calls(LICENSABLE, 0) == asked + 1


@pytest.mark.parametrize(
    ("code", "reason"), [(4, AbsentReason.NO_PERMISSION), (10, AbsentReason.TIMEOUT), (999, AbsentReason.UNKNOWN)]
)
def test_a_call_that_fails_says_why_and_is_made_again(rig, nvml_stub, code, reason):
    nvml_stub.fail(0, LICENSABLE, code)
    rig.backend.open()
    assert rig.read(0)[METRIC] is reason
    nvml_stub.write([f"answer 0 {LICENSABLE} 1"])
    assert rig.read(0, seconds=61)[METRIC] == 1


def test_it_tells_of_a_lost_board_like_any_other_call(rig, nvml_stub):
    nvml_stub.fail(0, LICENSABLE, 15)
    rig.backend.open()
    assert reasons_of(rig.read(0)) == {AbsentReason.GPU_IS_LOST}
