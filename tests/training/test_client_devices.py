"""Which devices a process computes on, by what its environment and the driver tell."""

import sys
from types import SimpleNamespace

import pytest
from stepwatt.devices import visible

UUIDS = [f"GPU-{number}0000000-0000-0000-0000-000000000000" for number in range(3)]


BUSES = ("0000:07:00.0", "0000:0a:00.0", "0000:48:00.0")
MINORS = (2, 0, 1)  # they follow the order in which the driver found the boards


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Return the pattern of files in which the NVIDIA driver describes three GPUs, and how their device files begin."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for bus, uuid, minor in zip(BUSES, UUIDS, MINORS, strict=True):
        (tmp_path / bus).mkdir()
        lines = [f"GPU UUID: \t {uuid}", f"Bus Location: \t {bus}", f"Device Minor: \t {minor}"]
        text = "\n".join(["Model: \t\t NVIDIA H100 80GB HBM3", "IRQ:   \t\t 18", *lines, ""])
        (tmp_path / bus / "information").write_text(text)
        (tmp_path / f"nvidia{minor}").touch()
    return str(tmp_path / "*" / "information"), str(tmp_path / "nvidia")


@pytest.mark.parametrize(
    ("env", "devices"),
    [
        ({}, UUIDS),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, [UUIDS[2], UUIDS[0]]),
        ({"CUDA_VISIBLE_DEVICES": UUIDS[1]}, [UUIDS[1]]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, ["MIG-1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"NVIDIA_VISIBLE_DEVICES": UUIDS[2]}, [UUIDS[2]]),
        ({"LOCAL_RANK": "1"}, [UUIDS[1]]),
        ({"CUDA_VISIBLE_DEVICES": "1,2", "SLURM_LOCALID": "1"}, [UUIDS[2]]),
        ({"CUDA_VISIBLE_DEVICES": "1", "LOCAL_RANK": "5"}, [UUIDS[1]]),
    ],
    ids=str,
)
def test_the_visible_devices_are_named_by_their_uuids(gpus, env, devices):
    assert visible(env, *gpus) == devices


@pytest.mark.parametrize(
    ("put", "env", "devices"),
    [
        ([2], {"NVIDIA_VISIBLE_DEVICES": "2"}, [UUIDS[2]]),
        ([2], {}, [UUIDS[2]]),
        ([1, 2], {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "0"}, [UUIDS[1]]),
        ([1, 2], {"NVIDIA_VISIBLE_DEVICES": "all", "LOCAL_RANK": "1"}, [UUIDS[2]]),
        ([], {}, []),
        ([], {"NVIDIA_VISIBLE_DEVICES": "void"}, []),
    ],
    ids=str,
)
def test_in_a_container_those_count_that_were_put_there(gpus, tmp_path, put, env, devices):
    for place in {0, 1, 2} - set(put):
        (tmp_path / f"nvidia{MINORS[place]}").unlink()
    assert visible(env, *gpus) == devices


def test_a_driver_that_tells_no_minor_shows_all(gpus, tmp_path):
    for bus in BUSES:
        file = tmp_path / bus / "information"
        file.write_text("".join(line for line in file.read_text().splitlines(True) if "Minor" not in line))
    assert visible({}, gpus[0], str(tmp_path / "none")) == UUIDS


def test_indices_stay_where_nothing_tells_uuids(gpus, tmp_path):
    nowhere = str(tmp_path / "none" / "*")
    assert visible({"CUDA_VISIBLE_DEVICES": "1,2", "LOCAL_RANK": "1"}, nowhere) == ["2"]
    assert visible({"HIP_VISIBLE_DEVICES": "3"}, nowhere) == ["3"]
    assert visible({"NVIDIA_VISIBLE_DEVICES": "1,2"}, nowhere) == ["1", "2"]
    assert visible({}, nowhere) == []


def test_the_device_that_torch_computes_on_comes_first(gpus, monkeypatch):
    properties = SimpleNamespace(uuid=UUIDS[2].removeprefix("GPU-"))
    cuda = SimpleNamespace(
        is_initialized=lambda: True, current_device=lambda: 0, get_device_properties=lambda device: properties
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert visible({}, *gpus) == [UUIDS[2]]


def test_a_torch_that_fails_or_has_no_device_is_passed_over(gpus, monkeypatch):
    for cuda in (SimpleNamespace(), SimpleNamespace(is_initialized=lambda: False)):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert visible({}, *gpus) == UUIDS
