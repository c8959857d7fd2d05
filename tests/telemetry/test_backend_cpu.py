"""The CPU backend over recorded files of proc and sysfs, and over this machine itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import catalog
from telemetry.agent.backends.cpu import CpuBackend
from telemetry.agent.backends.machine import Machine as Shared
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.agent.backends.rapl import _Domain
from telemetry.catalog import AbsentReason
from tests.telemetry.kernel_files import RANGE_UJ, Times
from tests.telemetry.kernel_files import Machine as KernelFiles


class Machine(KernelFiles):
    def backend(self):
        return CpuBackend(
            self.root,
            proc=self.root / "proc",
            sys=self.root / "sys",
            clock=lambda: self.seconds,
            machine=Shared(self.root / "proc", lambda: self.times),
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def read(backend):
    return backend.read()


def opened(machine):
    backend = machine.backend()
    backend.open()
    return backend


def test_it_is_one_device_with_the_processors_name(machine):
    device = opened(machine).device
    assert (device.kind, device.index, device.model) == ("cpu", 0, "Intel(R) Xeon(R) Platinum 8480+")
    assert device.uuid == opened(machine).device.uuid


def test_busy_share_is_measured_since_the_last_read(machine):
    backend = opened(machine)
    machine.times = Times(user=3.0, idle=1.0)
    assert read(backend)["gpu_utilization_ratio"] == pytest.approx(0.75)
    machine.seconds += 5.0
    machine.times = Times(user=4.0, idle=3.0, iowait=1.0)
    assert read(backend)["gpu_utilization_ratio"] == pytest.approx(0.25)


def test_busy_share_stands_until_it_is_read_again(machine):
    backend = opened(machine)
    found = []
    for second in range(1, 11):
        machine.seconds += 1.0
        machine.times = Times(user=float(second), idle=1.0)
        found.append(read(backend)["gpu_utilization_ratio"])
    assert found == pytest.approx([0.5] * 4 + [1.0] * 6)


def test_a_share_that_was_unknown_at_the_start_is_known_a_tick_later(machine):
    backend = opened(machine)
    assert read(backend)["gpu_utilization_ratio"] is AbsentReason.UNKNOWN
    machine.seconds += 1.0
    machine.times = Times(user=1.0, idle=1.0)
    assert read(backend)["gpu_utilization_ratio"] == pytest.approx(0.5)


def test_busy_share_is_absent_before_any_time_has_passed(machine):
    assert read(opened(machine))["gpu_utilization_ratio"] is AbsentReason.UNKNOWN


def test_guests_time_is_counted_once(machine):
    backend = opened(machine)
    machine.times = Times(user=2.0, guest=2.0, idle=2.0)
    assert read(backend)["gpu_utilization_ratio"] == pytest.approx(0.5)


def test_iowait_that_goes_back_is_no_time(machine):
    machine.times = Times(iowait=5.0)
    backend = opened(machine)
    machine.times = Times(user=1.0, idle=1.0, iowait=4.0)
    assert read(backend)["gpu_utilization_ratio"] == pytest.approx(0.5)


def test_memory_used_is_what_is_not_available(machine):
    found = read(opened(machine))
    assert found["memory_used_bytes"] + found["memory_free_bytes"] == found["memory_total_bytes"]
    assert found["memory_used_bytes"] > 0


def test_the_clock_is_the_mean_of_the_cores(machine):
    for number, kilohertz in enumerate((2_000_000, 3_000_000)):
        machine.write(f"sys/devices/system/cpu/cpufreq/policy{number}/scaling_cur_freq", kilohertz)
    assert read(opened(machine))["sm_clock_hertz"] == 2.5e9


def test_without_cpufreq_the_clock_is_that_of_cpuinfo(machine):
    assert read(opened(machine))["sm_clock_hertz"] == pytest.approx(2_000.5e6)


def test_a_processor_that_names_neither_itself_nor_its_clock_is_still_shown(machine):
    machine.write("proc/cpuinfo", "processor : 0\nBogoMIPS : 50.00")
    backend = opened(machine)
    assert backend.device.model.endswith("processor")
    assert read(backend)["sm_clock_hertz"] is AbsentReason.NOT_SUPPORTED


def test_temperature_is_that_of_the_hottest_package(machine):
    for number, (label, milli) in enumerate((("Package id 0", 51_000), ("Core 0", 99_000), ("Package id 1", 63_500))):
        machine.write(f"sys/class/hwmon/hwmon2/temp{number}_label", label)
        machine.write(f"sys/class/hwmon/hwmon2/temp{number}_input", milli)
    machine.write("sys/class/hwmon/hwmon2/name", "coretemp")
    assert read(opened(machine))["temperature_celsius"] == 63.5


def test_an_amd_processors_die_comes_before_its_control_value(machine):
    machine.write("sys/class/hwmon/hwmon0/name", "k10temp")
    for number, (label, milli) in enumerate((("Tctl", 80_000), ("Tdie", 53_000)), start=1):
        machine.write(f"sys/class/hwmon/hwmon0/temp{number}_label", label)
        machine.write(f"sys/class/hwmon/hwmon0/temp{number}_input", milli)
    assert read(opened(machine))["temperature_celsius"] == 53


def test_another_drivers_sensor_is_not_the_processors(machine):
    machine.write("sys/class/hwmon/hwmon0/name", "nvme")
    machine.write("sys/class/hwmon/hwmon0/temp1_label", "Package id 0")
    machine.write("sys/class/hwmon/hwmon0/temp1_input", 40_000)
    assert read(opened(machine))["temperature_celsius"] is AbsentReason.NOT_SUPPORTED


def test_a_sensor_that_goes_away_is_absent(machine):
    machine.write("sys/class/hwmon/hwmon0/name", "coretemp")
    machine.write("sys/class/hwmon/hwmon0/temp1_label", "Package id 0")
    sensor = machine.write("sys/class/hwmon/hwmon0/temp1_input", 40_000)
    backend = opened(machine)
    sensor.write_text("garbage")
    assert read(backend)["temperature_celsius"] is AbsentReason.UNKNOWN
    sensor.unlink()
    backend.close()  # where sysfs takes a file away, the open one answers with an error and is let go of
    assert read(backend)["temperature_celsius"] is AbsentReason.NOT_SUPPORTED


def test_power_is_energy_over_the_time_between_reads(machine):
    first, second = machine.add_package(0, 5_000_000), machine.add_package(1, 7_000_000)
    backend = opened(machine)
    first.write_text("65000000\n")
    second.write_text("47000000\n")
    machine.seconds += 2.0
    found = read(backend)
    assert found["power_draw_watts"] == pytest.approx(50.0)
    assert found["energy_joules_total"] == pytest.approx(100.0)


def test_a_register_that_wraps_goes_on_growing(machine):
    register = machine.add_package(0, RANGE_UJ - 10_000_000)
    backend = opened(machine)
    register.write_text("20000000\n")
    machine.seconds += 1.0
    found = read(backend)
    assert found["energy_joules_total"] == pytest.approx(30.0)
    assert found["power_draw_watts"] == pytest.approx(30.0)


def test_energy_over_a_long_silence_is_left_out(machine):
    register = machine.add_package(0, 0)
    backend = opened(machine)
    register.write_text("900000000\n")
    machine.seconds += 3600.0
    assert read(backend)["power_draw_watts"] is AbsentReason.UNKNOWN
    register.write_text("950000000\n")
    machine.seconds += 1.0
    assert read(backend)["energy_joules_total"] == pytest.approx(50.0)


def test_parts_of_a_package_and_the_whole_platform_are_not_added(machine):
    register = machine.add_package(0, 0)
    others = [machine.add_package("0:0", 0, "core"), machine.add_package(1, 0, "psys")]
    backend = opened(machine)
    for file, microjoules in ((register, 10_000_000), (others[0], 5_000_000), (others[1], 90_000_000)):
        file.write_text(f"{microjoules}\n")
    machine.seconds += 1.0
    assert read(backend)["energy_joules_total"] == pytest.approx(10.0)


def test_a_package_that_fails_takes_nothing_from_the_sum(machine):
    first, second = machine.add_package(0, 0), machine.add_package(1, 0)
    backend = opened(machine)
    first.write_text("10000000\n")
    second.write_text("garbage\n")
    machine.seconds += 1.0
    assert read(backend)["energy_joules_total"] is AbsentReason.UNKNOWN
    second.write_text("10000000\n")
    machine.seconds += 1.0
    assert read(backend)["energy_joules_total"] == pytest.approx(20.0)


def test_two_reads_in_a_row_give_no_power_from_noise(machine):
    register = machine.add_package(0, 0)
    backend = opened(machine)
    register.write_text("61\n")
    machine.seconds += 0.001
    found = read(backend)
    assert found["power_draw_watts"] is AbsentReason.UNKNOWN
    assert found["energy_joules_total"] == 0


def test_a_register_that_the_agent_may_not_read_says_so(machine, monkeypatch):
    machine.add_package(0, 0)
    real = Path.read_text  # patched, since root, as whom tests may run, is refused nothing

    def refuse(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = read(opened(machine))
    assert found["power_draw_watts"] is AbsentReason.NO_PERMISSION
    assert found["energy_joules_total"] is AbsentReason.NO_PERMISSION


def test_a_machine_without_rapl_has_no_power(machine):
    found = read(opened(machine))
    assert found["power_draw_watts"] is AbsentReason.NOT_SUPPORTED
    assert found["energy_joules_total"] is AbsentReason.NOT_SUPPORTED


@given(steps=st.lists(st.integers(0, RANGE_UJ - 1), max_size=50), start=st.integers(0, RANGE_UJ - 1))
def test_any_walk_of_the_register_adds_up(steps, start):
    domain, register, total = _Domain(Path(), RANGE_UJ, start), start, 0
    for step in steps:
        register = (register + step) % RANGE_UJ
        total += domain.advance(register)
    assert total == sum(steps)


def test_a_machine_that_cannot_keep_an_id_is_unavailable(machine, monkeypatch):
    def refuse(directory):
        raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr("telemetry.agent.backends.kernel.machine_id", refuse)
    with pytest.raises(BackendUnavailable, match="machine id"):
        machine.backend().open()


def test_this_machine_is_read(tmp_path):
    backend = CpuBackend(tmp_path)
    backend.open()
    found = read(backend)
    assert set(found) <= set(catalog.BY_NAME)
    assert found["memory_total_bytes"] > 0
    assert backend.software()["kernel"]
