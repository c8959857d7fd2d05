"""The AMD backend over a stand-in module with amdsmi's real shapes; no AMD device was at hand."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.backends.amd import AmdBackend
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.catalog import BY_NAME, AbsentReason
from tests.telemetry.amdsmi_standin import AmdSmiLibraryException, StandIn


@pytest.fixture
def smi():
    return StandIn()


def opened(smi, tmp_path):
    backend = AmdBackend(tmp_path, load=lambda: smi)
    backend.open()
    return backend


def test_it_finds_the_devices_with_their_identity(smi, tmp_path):
    first, second = (source.device for source in opened(smi, tmp_path).sources())
    assert (first.kind, first.model, first.pci_bus_id) == ("amd", "AMD Instinct MI300X", "0000:05:00.0")
    assert (first.index, second.index, first.driver_version) == (0, 1, "6.12.12")
    assert first.uuid != second.uuid


def test_readings_are_in_base_units(smi, tmp_path):
    readings = opened(smi, tmp_path).sources()[0].read()
    expected = {
        "gpu_utilization_ratio": 0.97,
        "memory_controller_utilization_ratio": 0.41,
        "power_draw_watts": 611,
        "power_limit_watts": 750,
        "energy_joules_total": 1526,
        "memory_total_bytes": 196592 * 2**20,
        "memory_used_ratio": 0.5,
        "temperature_celsius": 71,
        "memory_temperature_celsius": 63,
        "sm_clock_hertz": 2.1e9,
        "memory_clock_hertz": 1.3e9,
        "clock_event_reasons": 0x4,
        "ecc_corrected_total": 3,
        "pcie_link_generation": 5,
        "pcie_link_width": 16,
        "pcie_replay_total": 7,
    }
    assert {name: readings[name] for name in expected} == pytest.approx(expected)


def test_what_says_n_a_is_not_supported(smi, tmp_path):
    assert opened(smi, tmp_path).sources()[0].read()["encoder_utilization_ratio"] is AbsentReason.NOT_SUPPORTED


def test_older_releases_names_are_understood(smi, tmp_path):
    smi.answers[0]["energy_count"] = {"power": 100_000_000, "counter_resolution": 15.26, "timestamp": 1}
    smi.answers[0]["clock.GFX"] = {"cur_clk": 1700, "max_clk": 1700, "min_clk": 300}
    smi.answers[0]["power_info"] = {"average_socket_power": 280, "current_socket_power": "N/A"}
    readings = opened(smi, tmp_path).sources()[0].read()
    assert (readings["energy_joules_total"], readings["sm_clock_hertz"], readings["power_draw_watts"]) == (
        pytest.approx(1526), 1.7e9, 280
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reason"),
    [(2, "not_supported"), (8, "timeout"), (10, "no_permission"), (43, "unknown"), (40, "not_supported")],
)
def test_an_error_is_a_reason(smi, tmp_path, code, reason):
    smi.answers[0]["gpu_activity"] = AmdSmiLibraryException(code)
    assert opened(smi, tmp_path).sources()[0].read()["gpu_utilization_ratio"] == reason


def test_nothing_of_a_device_that_left_counts(smi, tmp_path):
    device = opened(smi, tmp_path).sources()[0]
    smi.answers[0]["gpu_vram_usage"] = AmdSmiLibraryException(31)
    assert set(device.read().values()) == {AbsentReason.GPU_IS_LOST}


def test_a_call_that_the_device_refuses_is_not_repeated(smi, tmp_path):
    smi.answers[0]["violation_status"] = AmdSmiLibraryException(2)
    device = opened(smi, tmp_path).sources()[0]
    device.read()
    smi.asked.clear()
    device.read()
    assert (0, "violation_status") not in smi.asked
    assert (0, "gpu_activity") in smi.asked


def test_a_call_that_has_no_answer_yet_is_asked_again(smi, tmp_path):
    smi.answers[0]["gpu_activity"] = dict.fromkeys(("gfx_activity", "umc_activity", "mm_activity"), "N/A")
    device = opened(smi, tmp_path).sources()[0]
    assert device.read()["gpu_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    smi.answers[0]["gpu_activity"] = {"gfx_activity": 50, "umc_activity": 1, "mm_activity": 0}
    assert device.read()["gpu_utilization_ratio"] == 0.5


def test_a_width_of_all_bits_is_no_width(smi, tmp_path):
    smi.answers[0]["pcie_info"]["pcie_metric"]["pcie_width"] = 0xFFFF
    assert opened(smi, tmp_path).sources()[0].read()["pcie_link_width"] is AbsentReason.UNKNOWN


def test_a_driver_that_was_unloaded_is_opened_again(smi, tmp_path):
    backend = opened(smi, tmp_path)
    smi.is_init = False
    backend.sources()[0].read()
    with pytest.raises(Exception, match="opened again"):
        backend.sources()
    backend.close()
    backend.open()
    assert backend.sources()[0].read()["power_draw_watts"] == 611


def test_processes_have_their_memory_and_share(smi, tmp_path):
    (process,) = opened(smi, tmp_path).sources()[0].processes()
    assert (process.pid, process.command, process.memory_bytes, process.sm_ratio) == (2**22 + 1, "python3", 2**30, 0.5)


def test_a_zero_uuid_is_replaced_by_one_of_the_machine_and_the_bus(smi, tmp_path):
    for answers in smi.answers:
        answers["gpu_device_uuid"] = "00000000-0000-0000-0000-000000000000"
    first, second = (source.device.uuid for source in opened(smi, tmp_path).sources())
    assert first != second
    assert first == opened(smi, tmp_path).sources()[0].device.uuid


def test_where_no_machine_id_can_be_kept_the_driver_is_let_go_of(smi, tmp_path, monkeypatch):
    def refuse(directory):
        raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr("telemetry.agent.backends.kernel.machine_id", refuse)
    smi.answers[0]["gpu_device_uuid"] = "N/A"
    with pytest.raises(BackendUnavailable, match="machine id"):
        opened(smi, tmp_path)
    assert not smi.is_init


@pytest.mark.parametrize("error", [KeyError("ROCM_HOME"), OSError("libamd_smi.so"), AttributeError("x"), ImportError()])
def test_without_rocm_the_backend_is_unavailable_and_prints_nothing(tmp_path, monkeypatch, capsys, error):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "amdsmi":
                sys.stdout.write("Unable to find libamd_smi.so\n")
                raise error

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    with pytest.raises(BackendUnavailable, match="amdsmi"):
        AmdBackend(tmp_path).open()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("change", [{"init_error": 34}, {"n_devices": 0}])
def test_without_a_driver_or_a_device_it_is_unavailable(smi, tmp_path, change):
    for name, value in change.items():
        setattr(smi, name, value)
    with pytest.raises(BackendUnavailable):
        opened(smi, tmp_path)


ANSWERS = (
    st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.booleans() | st.just("N/A") | st.just(0xFFFF)
)
CALLS = ("gpu_activity", "power_info", "power_cap_info", "energy_count", "gpu_vram_usage", "clock.GFX", "pcie_info",
         "gpu_total_ecc_count", "violation_status", "temperature.HOTSPOT", "temperature.VRAM")  # fmt: skip


@given(call=st.sampled_from(CALLS), answer=ANSWERS, code=st.none() | st.integers(0, 60), data=st.data())
def test_whatever_the_driver_answers_no_value_is_invented(tmp_path_factory, call, answer, code, data):
    smi = StandIn(1)
    known = smi.answers[0][call]
    smi.answers[0][call] = (
        AmdSmiLibraryException(code)
        if code is not None
        else {key: data.draw(ANSWERS) for key in known}
        if isinstance(known, dict) and data.draw(st.booleans())
        else answer
    )
    for name, value in opened(smi, tmp_path_factory.mktemp("agent")).sources()[0].read().items():
        assert name in BY_NAME
        assert isinstance(value, AbsentReason) or 0 <= value < 2**62
