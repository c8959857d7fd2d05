"""Which devices a process computes on, by what its environment and the driver tell."""

import sys
from types import SimpleNamespace

import pytest
from stepwatt.devices import visible

UUIDS = [f"GPU-{number}0000000-0000-0000-0000-000000000000" for number in range(3)]


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Return the pattern of files such as those in which the NVIDIA driver describes three GPUs."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for bus, uuid in zip(("0000:07:00.0", "0000:0a:00.0", "0000:48:00.0"), UUIDS, strict=True):
        (tmp_path / bus).mkdir()
        text = f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\nGPU UUID: \t {uuid}\nBus Location: \t {bus}\n"
        (tmp_path / bus / "information").write_text(text)
    return str(tmp_path / "*" / "information")


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
    assert visible(env, gpus) == devices


def test_indices_stay_where_nothing_tells_uuids(gpus, tmp_path):
    nowhere = str(tmp_path / "none" / "*")
    assert visible({"CUDA_VISIBLE_DEVICES": "1,2", "LOCAL_RANK": "1"}, nowhere) == ["2"]
    assert visible({"HIP_VISIBLE_DEVICES": "3"}, nowhere) == ["3"]
    assert visible({}, nowhere) == []


def test_the_device_that_torch_computes_on_comes_first(gpus, monkeypatch):
    properties = SimpleNamespace(uuid=UUIDS[2].removeprefix("GPU-"))
    cuda = SimpleNamespace(
        is_initialized=lambda: True, current_device=lambda: 0, get_device_properties=lambda device: properties
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert visible({}, gpus) == [UUIDS[2]]


def test_a_torch_that_fails_or_has_no_device_is_passed_over(gpus, monkeypatch):
    for cuda in (SimpleNamespace(), SimpleNamespace(is_initialized=lambda: False)):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert visible({}, gpus) == UUIDS
