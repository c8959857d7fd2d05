"""The TPU backend against a real gRPC server that speaks the runtime's protocol; no TPU was at hand."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tpu_info.proto import tpu_metric_service_pb2 as messages

from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.agent.backends.tpu import TpuBackend
from telemetry.catalog import AbsentReason

TOTAL, USED = "tpu.runtime.hbm.memory.total.bytes", "tpu.runtime.hbm.memory.usage.bytes"
DUTY, BANDWIDTH = "tpu.runtime.tensorcore.dutycycle.percent", "tpu.runtime.hbm.utilization.percent"


class Runtime:
    """The metric service of a workload: {metric: [(device id, value)]}, or a status code."""

    def __init__(self, address="127.0.0.1:0"):
        self.metrics = {
            TOTAL: [(0, 2**34), (1, 2**34)], USED: [(0, 2**33), (1, 2**32)], DUTY: [(0, 97.5), (1, 12.0)],
            BANDWIDTH: [(0, 55.0), (1, 5.0)],
        }  # fmt: skip
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=messages.MetricRequest.FromString,
            response_serializer=messages.MetricResponse.SerializeToString,
        )
        service = "tpu.monitoring.runtime.RuntimeMetricService"
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"GetRuntimeMetric": handler})]
        )
        self.port = self._server.add_secure_port(address, grpc.local_server_credentials())
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    def _answer(self, request, context):
        found = self.metrics.get(request.metric_name, grpc.StatusCode.NOT_FOUND)
        if isinstance(found, grpc.StatusCode):
            context.abort(found, "no such metric")
        rows = [self._row(device, value) for device, value in found]
        return messages.MetricResponse(metric=messages.TPUMetric(name=request.metric_name, metrics=rows))

    @staticmethod
    def _row(device, value):
        if value is None:
            return messages.Metric(attribute=messages.Attribute(value=messages.AttrValue(int_attr=device)))
        gauge = messages.Gauge(as_int=value) if isinstance(value, int) else messages.Gauge(as_double=value)
        attribute = messages.Attribute(key="device-id", value=messages.AttrValue(int_attr=device))
        return messages.Metric(attribute=attribute, gauge=gauge)


@pytest.fixture
def runtime():
    runtime = Runtime()
    yield runtime
    runtime.stop()


def add_chip(root, address, device="0x006f", subsystem="0x0000", group=None):
    folder = root / "sys" / "bus" / "pci" / "devices" / address
    folder.mkdir(parents=True)
    for name, value in (("vendor", "0x1ae0"), ("device", device), ("subsystem_device", subsystem)):
        (folder / name).write_text(f"{value}\n")
    if group is not None:
        (folder / "iommu_group").symlink_to(f"../../../kernel/iommu_groups/{group}")


@pytest.fixture
def two_chips(tmp_path):
    add_chip(tmp_path, "0000:00:05.0", group=1)
    add_chip(tmp_path, "0000:00:04.0", group=0)
    (tmp_path / "proc").mkdir()
    return tmp_path


def opened(root, port):
    backend = TpuBackend(root, sys=root / "sys", proc=root / "proc", address=f"127.0.0.1:{port}")
    backend.open()
    return backend


def read(backend):
    return [source.read() for source in backend.sources()]


def test_chips_are_found_on_the_bus_in_the_runtimes_order(two_chips, runtime):
    devices = [source.device for source in opened(two_chips, runtime.port).sources()]
    assert [(d.kind, d.index, d.model, d.pci_bus_id) for d in devices] == [
        ("tpu", 0, "TPU v6e", "0000:00:04.0"), ("tpu", 1, "TPU v6e", "0000:00:05.0")
    ]  # fmt: skip


def test_readings_are_in_base_units(two_chips, runtime):
    first, second = read(opened(two_chips, runtime.port))
    assert first == {
        "memory_total_bytes": 2**34, "memory_used_bytes": 2**33, "memory_free_bytes": 2**33, "memory_used_ratio": 0.5,
        "gpu_utilization_ratio": 0.975, "dram_active_ratio": 0.55,
    }  # fmt: skip
    assert second["gpu_utilization_ratio"] == pytest.approx(0.12)


def test_device_ids_of_a_pod_are_told_apart_by_their_order(two_chips, runtime):
    runtime.metrics[DUTY] = [(13, 12.0), (12, 97.5)]
    assert [r["gpu_utilization_ratio"] for r in read(opened(two_chips, runtime.port))] == pytest.approx([0.975, 0.12])


def test_a_chips_duty_cycle_stands_for_both_its_cores(tmp_path, runtime):
    add_chip(tmp_path, "0000:00:04.0", "0x0027", "0x004f")
    runtime.metrics[DUTY] = [(0, 40.0)]
    found = read(opened(tmp_path, runtime.port))
    assert [r["gpu_utilization_ratio"] for r in found] == pytest.approx([0.4, 0.4])
    assert [r["memory_used_bytes"] for r in found] == [2**33, 2**32]


def test_a_workload_on_some_of_the_chips_leaves_the_others_unknown(two_chips, runtime):
    for metric, rows in runtime.metrics.items():
        runtime.metrics[metric] = rows[1:]
    first, second = read(opened(two_chips, runtime.port))
    assert set(first.values()) == {AbsentReason.NO_WORKLOAD}
    assert (second["memory_used_bytes"], second["gpu_utilization_ratio"]) == (2**32, pytest.approx(0.12))


def test_one_core_in_use_does_not_speak_for_the_other(tmp_path, runtime):
    add_chip(tmp_path, "0000:00:04.0", "0x0027", "0x004f")
    runtime.metrics |= {TOTAL: [(1, 2**34)], USED: [(1, 2**33)], DUTY: [(0, 40.0)]}
    first, second = read(opened(tmp_path, runtime.port))
    assert (first["memory_used_bytes"], second["memory_used_bytes"]) == (AbsentReason.NO_WORKLOAD, 2**33)
    assert first["gpu_utilization_ratio"] == second["gpu_utilization_ratio"] == pytest.approx(0.4)


def test_a_whole_number_in_the_place_of_a_fraction_is_read(two_chips, runtime):
    runtime.metrics[DUTY] = [(0, 97), (1, 12)]
    assert read(opened(two_chips, runtime.port))[0]["gpu_utilization_ratio"] == pytest.approx(0.97)


def test_without_a_workload_nothing_is_known_and_the_reason_is_told(two_chips, runtime):
    runtime.stop()
    (first, _) = read(opened(two_chips, runtime.port))
    assert set(first.values()) == {AbsentReason.NO_WORKLOAD}


def test_a_workload_that_starts_later_is_found(two_chips, runtime):
    runtime.stop()
    backend = opened(two_chips, runtime.port)
    read(backend)
    again = Runtime(f"127.0.0.1:{runtime.port}")
    deadline = time.monotonic() + 60
    while (found := read(backend))[0][
        "gpu_utilization_ratio"
    ] is AbsentReason.NO_WORKLOAD and time.monotonic() < deadline:
        time.sleep(0.1)
    again.stop()
    assert found[0]["gpu_utilization_ratio"] == pytest.approx(0.975)


def test_an_empty_list_is_no_zero(two_chips, runtime):
    runtime.metrics[DUTY] = []
    assert read(opened(two_chips, runtime.port))[0]["gpu_utilization_ratio"] is AbsentReason.NO_WORKLOAD


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (grpc.StatusCode.NOT_FOUND, AbsentReason.NOT_SUPPORTED),
        (grpc.StatusCode.PERMISSION_DENIED, AbsentReason.NO_PERMISSION),
        (grpc.StatusCode.INTERNAL, AbsentReason.UNKNOWN),
        ([(0, float("nan")), (1, 50.0)], AbsentReason.UNKNOWN),
        ([(0, 1e9), (1, 50.0)], AbsentReason.UNKNOWN),
        ([(0, -1.0), (1, 50.0)], AbsentReason.UNKNOWN),
        ([(0, 1.0), (1, 2.0), (2, 3.0)], AbsentReason.UNKNOWN),
        ([(0, 1.0), (0, 2.0)], AbsentReason.UNKNOWN),
        ([(0, None), (1, None)], AbsentReason.UNKNOWN),
    ],
)
def test_an_answer_that_is_no_reading_is_a_reason(two_chips, runtime, answer, reason):
    runtime.metrics[DUTY] = answer
    assert read(opened(two_chips, runtime.port))[0]["gpu_utilization_ratio"] is reason


def test_who_holds_the_device_file_is_told(two_chips, runtime):
    folder = two_chips / "proc" / "42" / "fd"
    folder.mkdir(parents=True)
    (folder / "7").symlink_to("/dev/vfio/1")
    (folder.parent / "comm").write_text("python3\n")
    first, second = opened(two_chips, runtime.port).sources()
    assert first.processes() == []
    assert [p.pid for p in second.processes()] == [42]


def test_a_machine_without_a_chip_has_no_backend(tmp_path):
    with pytest.raises(BackendUnavailable, match="no TPU"):
        TpuBackend(tmp_path, sys=tmp_path / "sys").open()
