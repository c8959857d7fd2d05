"""How the stub's devices are joined, through the real bindings (tests/nvml_stub), and what its driver is."""

import pynvml
import pytest

from telemetry.agent.backends.nvml.software import driver_software
from telemetry.agent.backends.nvml.topology import read_topology
from telemetry.message.wire import Topology

ANCESTOR, STATE = "nvmlDeviceGetTopologyCommonAncestor", "nvmlDeviceGetNvLinkState"
REMOTE_TYPE, AFFINITY = "nvmlDeviceGetNvLinkRemoteDeviceType", "nvmlDeviceGetMemoryAffinity"
NOT_SUPPORTED, FUNCTION_NOT_FOUND, GPU_IS_LOST = 3, 13, 15


class Devices:
    """The first devices of the stub, named by letters in the place of their UUIDs."""

    def __init__(self, stub, sys, n=4):
        self.stub, self.sys = stub, sys
        self.handles = {"abcdefgh"[i]: pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(n)}

    def read(self):
        return read_topology(self.handles, self.sys)

    def ways(self):
        return {one + other: way for one, other, way in self.read().links}


@pytest.fixture
def driver(nvml_stub):
    pynvml.nvmlInit()
    yield nvml_stub
    nvml_stub.clear()
    pynvml.nvmlShutdown()


@pytest.fixture
def pair(driver, tmp_path):
    return Devices(driver, tmp_path, n=2)


@pytest.fixture
def without_nvlink(pair):
    pair.stub.set_nvlink("*", "*", "missing")
    return pair


def test_devices_on_switches_are_joined_by_all_their_links(driver, tmp_path):
    ways = Devices(driver, tmp_path, n=8).ways()
    assert len(ways) == 28
    assert set(ways.values()) == {"NV18"}


def test_a_device_with_links_down_is_the_narrower_end(driver, tmp_path):
    devices = Devices(driver, tmp_path, n=3)
    driver.set_nvlink(1, 0, "down")
    driver.set_nvlink(1, 7, "down")
    assert devices.ways() == {"ab": "NV16", "ac": "NV18", "bc": "NV16"}


@pytest.mark.parametrize("code", [3, 4, 10, 999])
def test_links_that_are_not_told_do_not_hide_the_others(driver, tmp_path, code):
    devices = Devices(driver, tmp_path, n=3)
    driver.write([f"fail 1 link:{link} {code}" for link in (0, 9, 17)])
    assert devices.ways() == {"ab": "NV15", "ac": "NV18", "bc": "NV15"}


def test_links_from_device_to_device_are_counted_by_pair(driver, tmp_path):
    devices = Devices(driver, tmp_path, n=3)
    lines = ["nvlink * * missing"]
    for link, (one, other) in enumerate([(0, 1), (0, 1), (0, 2)]):
        lines += [f"nvlink {one} {link} {other}", f"nvlink {other} {link} {one}"]
    driver.write(lines)
    assert devices.ways() == {"ab": "NV2", "ac": "NV1", "bc": "NODE"}


def test_a_driver_that_does_not_know_the_far_ends_kind_tells_it_by_its_address(pair):
    pair.stub.write(
        ["nvlink * * missing", "nvlink 0 0 1", "nvlink 1 0 0", f"fail * {REMOTE_TYPE} {FUNCTION_NOT_FOUND}"]
    )
    assert pair.ways() == {"ab": "NV1"}


def test_a_link_to_what_is_not_shown_here_joins_nothing(pair):
    pair.stub.write(["nvlink * * missing", "nvlink 0 0 5", "nvlink 1 0 5"])
    assert pair.ways() == {"ab": "NODE"}


@pytest.mark.parametrize(
    ("level", "way"), [(0, "PIX"), (10, "PIX"), (20, "PXB"), (30, "PHB"), (40, "NODE"), (50, "SYS")]
)
def test_without_nvlink_the_way_over_pcie_counts(without_nvlink, level, way):
    without_nvlink.stub.set_path(0, 1, level)
    assert without_nvlink.ways() == {"ab": way}


@pytest.mark.parametrize("line", [f"unsupported * {ANCESTOR}", "path 0 1 77"])
def test_a_pair_whose_way_is_not_told_is_left_out(without_nvlink, line):
    without_nvlink.stub.add(line)
    assert without_nvlink.read().links == []


def test_of_a_device_that_is_lost_no_link_is_known_and_the_others_are(driver, tmp_path):
    devices = Devices(driver, tmp_path, n=3)
    driver.fail(1, STATE, GPU_IS_LOST)
    driver.fail(1, ANCESTOR, GPU_IS_LOST)
    driver.fail(0, ANCESTOR, GPU_IS_LOST)
    assert devices.ways() == {"ac": "NV18"}


def test_the_numa_node_is_the_kernels(pair):
    for bus, node in (("07", 0), ("18", 1)):
        folder = pair.sys / f"bus/pci/devices/0000:{bus}:00.0"
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    assert pair.read().numa == {"a": 0, "b": 1}


@pytest.mark.parametrize("content", ["-1\n", "", None])
def test_where_the_kernel_does_not_tell_it_the_drivers_affinity_counts(pair, content):
    folder = pair.sys / "bus/pci/devices/0000:07:00.0"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "numa_node").write_text(content)
    pair.stub.answer(0, AFFINITY, 0b100)
    assert pair.read().numa["a"] == 2


@pytest.mark.parametrize("mask", [0, 0b11])
def test_an_affinity_to_none_or_several_nodes_is_no_node(pair, mask):
    pair.stub.answer(0, AFFINITY, mask)
    assert "a" not in pair.read().numa


def test_the_memory_of_a_grace_board_is_not_taken_for_its_node(pair):
    pair.stub.answer(0, "nvmlDeviceGetNumaNodeId", 5)
    assert pair.read().numa["a"] == 0


def test_one_device_alone_has_no_links(driver, tmp_path):
    assert Devices(driver, tmp_path, n=1).read() == Topology([], {"a": 0})


def test_where_nothing_is_told_there_is_no_topology(without_nvlink):
    for call in (ANCESTOR, AFFINITY):
        without_nvlink.stub.unsupport("*", call)
    assert without_nvlink.read() is None


@pytest.mark.parametrize("code", [1, 2, 3, 13, 15, 16, 999])
def test_whatever_fails_the_topology_does_not_raise(pair, code):
    calls = [ANCESTOR, STATE, REMOTE_TYPE, AFFINITY, "nvmlDeviceGetNvLinkRemotePciInfo_v2", "nvmlDeviceGetPciInfo_v3"]
    pair.stub.write([f"fail * {call} {code}" for call in calls])
    assert pair.read() is None


def test_it_names_the_driver_the_cuda_version_and_the_library(driver):
    assert driver_software() == {"driver": "580.105.08", "cuda": "13.0", "nvml": "12.580.105.08"}


def test_a_version_that_is_not_told_is_left_out(driver):
    driver.fail("*", "nvmlSystemGetCudaDriverVersion_v2", 12)
    driver.fail("*", "nvmlSystemGetNVMLVersion", 999)
    assert driver_software() == {"driver": "580.105.08"}
