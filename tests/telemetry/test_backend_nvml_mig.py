"""MIG in the NVML backend: instances as devices under their board, and boards that are divided while the agent runs."""

import pytest

from fleet.models import Device
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import MEMORY, POWER, UTILIZATION, instance_of, reasons_of, uuid_of

LOST = {AbsentReason.GPU_IS_LOST}
RELIST = 31


@pytest.fixture
def divided(rig, nvml_stub):
    nvml_stub.divide(2, "1g.10gb,2g.20gb")
    rig.backend.open()
    rig.tick()
    return rig


def test_an_instance_is_a_device_under_its_board(divided):
    device = divided.devices()[instance_of(2, 2)]
    assert device.parent == uuid_of(2)
    assert (device.index, device.profile) == (2, "2g.20gb")  # the stub's GPU instance ids count from 1
    assert device.model == "NVIDIA H100 80GB HBM3 MIG 2g.20gb"
    assert device.pci_bus_id == divided.devices()[uuid_of(2)].pci_bus_id
    assert len(divided.devices()) == 10


def test_the_instances_come_after_their_board(divided):
    order = list(divided.devices())
    assert order[2:5] == [uuid_of(2), instance_of(2, 1), instance_of(2, 2)]


def test_an_older_drivers_profile_is_made_from_its_parts(rig, nvml_stub):
    nvml_stub.divide(2, "plain_names,3g.40gb")
    rig.backend.open()
    device = rig.devices()[instance_of(2, 1)]
    assert (device.model, device.profile) == ("NVIDIA H100 80GB HBM3", "3g.40gb")


@pytest.mark.parametrize("names", ["", "plain_names,"])
def test_compute_instances_of_one_gpu_instance_are_devices_that_can_be_told_apart(rig, nvml_stub, names):
    nvml_stub.divide(2, f"{names}1c.3g.40gb,&1c.3g.40gb,&1c.3g.40gb,3g.40gb")
    rig.backend.open()
    found = [device for device in rig.devices().values() if device.parent == uuid_of(2)]
    assert [device.uuid for device in found] == [instance_of(2, place) for place in (1, 2, 3, 4)]
    assert [(device.index, device.profile) for device in found] == [
        (1, "1c.3g.40gb CI 0"),
        (1, "1c.3g.40gb CI 1"),
        (1, "1c.3g.40gb CI 2"),
        (4, "3g.40gb"),
    ]


def test_to_a_reader_no_two_instances_of_a_board_have_one_title(rig, nvml_stub):
    nvml_stub.divide(2, "1c.3g.40gb,&2c.3g.40gb,1c.3g.40gb,&1c.3g.40gb,1g.10gb")
    rig.backend.open()
    parts = [device for device in rig.devices().values() if device.parent]
    titles = [Device(kind=part.kind, index=part.index, profile=part.profile).title for part in parts]
    assert titles == [
        "MIG 1 (1c.3g.40gb CI 0)",
        "MIG 1 (2c.3g.40gb CI 1)",
        "MIG 3 (1c.3g.40gb CI 0)",
        "MIG 3 (1c.3g.40gb CI 1)",
        "MIG 5 (1g.10gb)",
    ]


def test_compute_instances_share_the_memory_and_the_metrics_of_their_gpu_instance(rig, nvml_stub):
    nvml_stub.divide(2, "1c.3g.40gb,&2c.3g.40gb")
    rig.backend.open()
    rig.tick()
    one, other = (rig.tick()[instance_of(2, place)] for place in (1, 2))
    assert one["memory_total_bytes"] == other["memory_total_bytes"] == 40 * 2**30 - 2**28
    assert 0 <= one["tensor_active_ratio"] <= 1
    assert 0 <= other["tensor_active_ratio"] <= 1


def test_a_compute_instance_that_does_not_tell_its_number_is_left_out_and_named_once(rig, nvml_stub, caplog):
    nvml_stub.divide(2, "1c.3g.40gb,1g.10gb")
    nvml_stub.fail(2, "nvmlDeviceGetComputeInstanceId", 999)
    rig.backend.open()
    rig.tick()
    rig.tick(RELIST)
    assert {instance_of(2, 1), instance_of(2, 2)} & set(rig.devices()) == {instance_of(2, 2)}
    assert caplog.text.count("MIG instance 0") == 1


def test_an_instance_has_memory_and_gpm_readings_of_its_own(divided):
    found = divided.tick()[instance_of(2, 1)]
    assert found["memory_total_bytes"] == 10 * 2**30 - 2**28
    assert 0 < found["memory_used_ratio"] < 1
    assert 0 <= found["tensor_active_ratio"] <= 1
    assert "power_draw_watts" not in found


def test_what_gpm_has_not_for_an_instance_is_absent(divided):
    assert divided.tick()[instance_of(2, 1)]["pcie_tx_bytes_per_second"] is AbsentReason.UNKNOWN


def test_a_divided_board_has_power_but_no_utilisation(divided, nvml_stub):
    asked = nvml_stub.calls(UTILIZATION, 2)
    found = divided.read(2)
    assert found["gpu_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    assert found["encoder_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    assert found["power_draw_watts"] > 0
    assert nvml_stub.calls(UTILIZATION, 2) == asked


def test_a_board_that_is_divided_while_running_is_followed(opened, nvml_stub):
    assert opened.read(2)["gpu_utilization_ratio"] >= 0
    nvml_stub.divide(2, "1g.10gb")
    assert opened.read(2)["gpu_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    assert instance_of(2, 1) in opened.tick()


def test_a_board_that_is_whole_again_has_utilisation_and_no_instances(divided, nvml_stub):
    nvml_stub.clear()
    found = divided.tick(RELIST)
    assert instance_of(2, 1) not in found
    assert found[uuid_of(2)]["gpu_utilization_ratio"] >= 0


def test_an_instance_that_was_taken_apart_is_gone_at_the_next_tick(divided, nvml_stub):
    nvml_stub.write(["mig 2 1g.10gb"])
    divided.tick()
    found = divided.tick()
    assert instance_of(2, 2) not in found
    assert found[instance_of(2, 1)]["memory_used_bytes"] > 0


def test_an_instance_that_is_made_while_running_is_found(divided, nvml_stub):
    nvml_stub.write(["mig 2 1g.10gb,2g.20gb,3g.40gb"])
    assert instance_of(2, 3) not in divided.tick()
    assert divided.tick(RELIST)[instance_of(2, 3)]["memory_total_bytes"] == 40 * 2**30 - 2**28


def test_an_instance_that_is_made_anew_in_the_place_of_another_has_its_own_size(divided, nvml_stub):
    nvml_stub.write(["mig 2 3g.40gb,2g.20gb"])
    found = divided.tick(RELIST)[instance_of(2, 1)]
    assert found["memory_total_bytes"] == 40 * 2**30 - 2**28
    assert divided.devices()[instance_of(2, 1)].profile == "3g.40gb"


def test_the_instances_of_a_lost_board_are_lost_and_stay_known(divided, nvml_stub):
    nvml_stub.lose(2)
    for seconds in (1, 1, RELIST):
        found = divided.tick(seconds)
        assert reasons_of(found[uuid_of(2)]) == LOST
        assert set(found[instance_of(2, 1)].values()) == LOST


def test_instances_are_lost_with_their_board_although_they_still_answer(divided, nvml_stub):
    nvml_stub.fail(2, POWER, 15)
    assert set(divided.tick()[instance_of(2, 1)].values()) == LOST
    nvml_stub.write(["mig 2 1g.10gb,2g.20gb"])
    divided.tick()
    assert divided.tick()[instance_of(2, 1)]["memory_used_bytes"] > 0


def test_what_an_instance_does_not_offer_is_not_asked_again(rig, nvml_stub):
    nvml_stub.divide(2, "1g.10gb")
    nvml_stub.unsupport(2, MEMORY)
    nvml_stub.unsupport(2, "nvmlDeviceGetMemoryInfo")
    rig.backend.open()
    rig.tick()
    asked = nvml_stub.calls(MEMORY, 2)
    assert rig.tick()[instance_of(2, 1)]["memory_used_bytes"] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(MEMORY, 2) == asked


def test_the_samples_of_an_instance_that_is_gone_are_given_back(divided, nvml_stub):
    held = nvml_stub.gpm_samples()
    nvml_stub.write(["mig 2 1g.10gb"])
    divided.tick()
    divided.tick()
    assert nvml_stub.gpm_samples() == held - 2


def test_a_divided_board_without_gpm_has_instances_without(rig, nvml_stub):
    nvml_stub.make_a100(2)
    nvml_stub.divide(2, "1g.10gb")
    rig.backend.open()
    rig.tick()
    found = rig.tick()[instance_of(2, 1)]
    assert found["tensor_active_ratio"] is AbsentReason.NOT_SUPPORTED
    assert found["memory_used_bytes"] > 0
