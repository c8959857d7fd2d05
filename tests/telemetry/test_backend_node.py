"""The node backend over recorded files of proc and sysfs, and over this machine itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import catalog
from telemetry.agent.backends.kernel import KernelFile, pressure, read_cpu_times
from telemetry.agent.backends.machine import Machine as Shared
from telemetry.agent.backends.node import NodeBackend
from telemetry.catalog import AbsentReason
from tests.telemetry.kernel_files import Machine, Times

PRESSURE = "some avg10=12.34 avg60=1.19 avg300=0.54 total=15544563\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def opened(machine, own_cost=dict):
    backend = NodeBackend(
        machine.root,
        own_cost,
        proc=machine.root / "proc",
        sys=machine.root / "sys",
        clock=lambda: machine.seconds,
        machine=Shared(machine.root / "proc", lambda: machine.times),
    )
    backend.open()
    return backend


def test_it_is_one_device_of_kind_node_with_the_machines_name(machine):
    machine.write("sys/class/dmi/id/sys_vendor", "NVIDIA")
    machine.write("sys/class/dmi/id/product_name", "DGXH100")
    device = opened(machine).device
    assert (device.kind, device.index, device.model) == ("node", 0, "NVIDIA DGXH100")
    assert device.uuid == opened(machine).device.uuid


def test_a_placeholder_of_the_firmware_is_no_name(machine):
    machine.write("sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.")
    assert opened(machine).device.model == ""


def test_it_tells_the_busy_share_of_all_cores(machine):
    backend = opened(machine)
    machine.times = Times(user=3.0, idle=1.0)
    assert backend.read()["host_cpu_utilization_ratio"] == pytest.approx(0.75)


def test_memory_used_is_what_is_not_available(machine):
    readings = opened(machine).read()
    assert (readings["host_memory_total_bytes"], readings["host_memory_used_bytes"]) == (2**33, 2**31)


def test_memory_that_cannot_be_read_is_absent(machine):
    machine.write("proc/meminfo", "nothing")
    assert opened(machine).read()["host_memory_used_bytes"] is AbsentReason.UNKNOWN


def test_the_kernels_own_load_counts_up(tmp_path):
    times = read_cpu_times(KernelFile(Path("/proc/stat")))
    assert times.user + times.idle > 0
    assert sum(times) >= sum(times[:4])


def test_a_file_that_stays_open_is_read_anew(tmp_path):
    path = tmp_path / "number"
    path.write_text("1\n")
    file = KernelFile(path)
    assert file.read() == b"1\n"
    path.write_text("22\n")
    assert file.read() == b"22\n"


def test_pressure_is_the_share_of_the_last_ten_seconds(machine):
    machine.write("proc/pressure/cpu", PRESSURE)
    assert opened(machine).read()["host_cpu_pressure_ratio"] == pytest.approx(0.1234)


def test_a_kernel_without_pressure_accounts_gives_a_reason(machine):
    assert opened(machine).read()["host_memory_pressure_ratio"] is AbsentReason.NOT_SUPPORTED


@given(content=st.text(max_size=200) | st.builds("some avg10={} avg60=0".format, st.floats()))
def test_whatever_the_kernel_writes_pressure_is_a_number_or_a_reason(tmp_path_factory, content):
    proc = tmp_path_factory.mktemp("proc")
    (proc / "io").write_bytes(content.encode("utf-8", "surrogatepass"))
    found = pressure(KernelFile(proc / "io"))
    assert isinstance(found, AbsentReason) or 0 <= found <= 1


def test_power_is_the_platforms_and_not_the_packages(machine):
    machine.add_package(0, 1_000_000)
    assert opened(machine).read()["power_draw_watts"] is AbsentReason.NOT_SUPPORTED


def test_power_of_the_platform_is_its_energy_over_time(machine):
    register = machine.add_package(0, 1_000_000, name="psys")
    backend = opened(machine)
    machine.seconds += 2
    register.write_text("601000000\n")
    readings = backend.read()
    assert (readings["power_draw_watts"], readings["energy_joules_total"]) == (pytest.approx(300), pytest.approx(600))


def test_the_agents_own_cost_stands_among_its_readings(machine):
    assert opened(machine, lambda: {"agent_resident_bytes": 5e7}).read()["agent_resident_bytes"] == 5e7


def test_every_reading_on_this_machine_is_a_row_of_the_catalogue(tmp_path):
    backend = NodeBackend(tmp_path, dict)
    backend.open()
    assert set(backend.read()) <= set(catalog.BY_NAME)
    assert backend.read()["host_memory_total_bytes"] > 2**28
    assert backend.software()["os"]
