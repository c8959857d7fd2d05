"""Whom Kubernetes gave which device: against a real gRPC server on a Unix socket; no cluster was at hand."""

import builtins
import socket

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.backends.allocation_given import Given
from telemetry.agent.backends.allocation_kubelet import Kubelet, device_ids
from telemetry.catalog import AbsentReason
from tests.telemetry.kubelet_standin import KubeletStandIn, allocatable, devices, pods

GPU, OTHER = "GPU-6f1c4b2e-5c1d-4c58-9d7a-2f5f1f0e1a11", "GPU-aa0e2a6b-3d65-4e7d-8a43-0f6f2a0b7c22"
MIG = "MIG-9b1deb4d-3b7d-5bad-9bdd-2b0d7b3dcb6d"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kubelet.sock"


@pytest.fixture
def kubelet(path):
    kubelet = KubeletStandIn(path)
    yield kubelet
    kubelet.stop()


def test_the_devices_of_pods_and_those_that_may_be_given_are_told(kubelet, path):
    kubelet.pods, kubelet.allocatable = pods(devices(GPU)), allocatable(devices(GPU, OTHER))
    assert Kubelet(path).look() == Given({GPU}, {GPU, OTHER})


def test_mig_instances_and_replicas_are_told_by_their_device(kubelet, path):
    kubelet.pods = pods(devices(MIG, resource="nvidia.com/mig-1g.10gb"), devices(f"{GPU}::0", f"{GPU}::3"))
    assert Kubelet(path).look() == Given({MIG, GPU}, frozenset())


def test_amds_plugin_names_devices_by_their_address(kubelet, path):
    kubelet.pods = pods(devices("0000:1B:00.0", resource="amd.com/gpu"))
    assert Kubelet(path).look() == Given({"0000:1b:00.0"}, frozenset())


def test_a_node_without_pods_has_given_nothing(kubelet, path):
    kubelet.allocatable = allocatable(devices(GPU))
    assert Kubelet(path).look() == Given(frozenset(), {GPU})


def test_a_kubelet_that_does_not_tell_what_it_may_give_manages_nothing(kubelet, path):
    kubelet.pods, kubelet.allocatable = pods(devices(GPU)), grpc.StatusCode.UNIMPLEMENTED
    assert Kubelet(path).look() == Given({GPU}, frozenset())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, AbsentReason.NO_PERMISSION),
        (grpc.StatusCode.UNIMPLEMENTED, AbsentReason.NOT_SUPPORTED),
        (grpc.StatusCode.UNAVAILABLE, AbsentReason.SCHEDULER_AWAY),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, AbsentReason.SCHEDULER_AWAY),
        (b"\x0a\x7f", AbsentReason.SCHEDULER_AWAY),
    ],
)
def test_an_answer_that_tells_nothing_is_a_reason(kubelet, path, answer, reason):
    kubelet.pods = answer
    assert Kubelet(path).look() is reason


def test_a_kubelet_that_does_not_answer_is_given_up_in_time(kubelet, path):
    kubelet.delay_seconds = 1.0
    assert Kubelet(path, deadline_seconds=0.2).look() is AbsentReason.SCHEDULER_AWAY


def test_a_node_without_a_kubelet_says_nothing(path):
    assert Kubelet(path).look() is None


def test_a_socket_that_nobody_listens_on_is_a_kubelet_that_is_away(path):
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(path))
        assert Kubelet(path).look() is AbsentReason.SCHEDULER_AWAY


def test_a_kubelet_that_starts_again_is_heard_again(path):
    asking, first = Kubelet(path), KubeletStandIn(path)
    first.stop()
    path.unlink(missing_ok=True)
    second = KubeletStandIn(path)
    second.pods = pods(devices(GPU))
    assert asking.look() == Given({GPU}, frozenset())
    second.stop()


def test_a_socket_that_the_agent_may_not_open_is_no_permission(path, monkeypatch):
    path.touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert Kubelet(path).look() is AbsentReason.NO_PERMISSION


def test_without_grpcio_the_log_says_what_to_install(path, monkeypatch, caplog):
    path.touch()
    imported = builtins.__import__
    monkeypatch.setattr(
        "builtins.__import__", lambda name, *rest: _missing() if name == "grpc" else imported(name, *rest)
    )
    asking = Kubelet(path)
    assert [asking.look(), asking.look()] == [AbsentReason.NOT_SUPPORTED] * 2
    assert caplog.text.count("stepwatt-agent[kubernetes]") == 1


def _missing():
    raise ImportError("no grpc")


NAMES = st.text(min_size=1, max_size=300).filter(lambda name: "::" not in name).map(lambda name: f"GPU-{name}")


@given(st.lists(st.lists(NAMES, max_size=4), max_size=20))
def test_whatever_the_devices_are_called_all_are_read(given):
    answer = pods(*(devices(*each) for each in given)).SerializeToString()
    assert device_ids(answer, 1, 3, 2) == {name for each in given for name in each}


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_or_hold_texts(noise):
    try:
        found = device_ids(noise, 1)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in found)
