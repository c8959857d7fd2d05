"""A kubelet for tests: its pod-resources service on a Unix socket, by real gRPC, with protobuf's own encoding of its answers.

The messages are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, with what the agent steps over.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TEXT, _NUMBER, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)
_ONE, _MANY = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
# Message → its fields: name, number, type (of a message: its name), label.
_SCHEMA = {
    "NUMANode": [("ID", 1, _NUMBER, _ONE)],
    "NUMATopology": [("nodes", 1, "NUMANode", _MANY)],
    "ContainerDevices": [
        ("resource_name", 1, _TEXT, _ONE), ("device_ids", 2, _TEXT, _MANY), ("topology", 3, "NUMATopology", _ONE),
    ],
    "ContainerMemory": [("memory_type", 1, _TEXT, _ONE), ("size", 2, _NUMBER, _ONE)],
    "ContainerResources": [
        ("name", 1, _TEXT, _ONE), ("devices", 2, "ContainerDevices", _MANY), ("cpu_ids", 3, _NUMBER, _MANY),
        ("memory", 4, "ContainerMemory", _MANY),
    ],
    "PodResources": [
        ("name", 1, _TEXT, _ONE), ("namespace", 2, _TEXT, _ONE), ("containers", 3, "ContainerResources", _MANY),
    ],
    "ListPodResourcesResponse": [("pod_resources", 1, "PodResources", _MANY)],
    "AllocatableResourcesResponse": [
        ("devices", 1, "ContainerDevices", _MANY), ("cpu_ids", 2, _NUMBER, _MANY), ("memory", 3, "ContainerMemory", _MANY),
    ],
}  # fmt: skip


def _messages():
    file = descriptor_pb2.FileDescriptorProto(name="podresources_standin.proto", package="v1", syntax="proto3")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            added = message.field.add(name=field, number=number, label=label)
            added.type = _MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                added.type_name = f".v1.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _SCHEMA}


MESSAGES = _messages()


def devices(*device_ids, resource="nvidia.com/gpu"):
    return {"resource_name": resource, "device_ids": device_ids, "topology": {"nodes": [{"ID": 1}]}}


def pods(*given):
    """Return the answer of List: a pod for each of `given`, with a side-car that has no device."""
    return MESSAGES["ListPodResourcesResponse"](
        pod_resources=[
            {
                "name": f"trainer-{n}", "namespace": "ml",
                "containers": [{"name": "proxy", "cpu_ids": [0, 1]}, {"name": "main", "devices": [each], "cpu_ids": [300]}],
            }
            for n, each in enumerate(given)
        ]
    )  # fmt: skip


def allocatable(*given):
    return MESSAGES["AllocatableResourcesResponse"](
        devices=given, cpu_ids=range(192), memory=[{"memory_type": "memory", "size": 2**41}]
    )


class KubeletStandIn:
    """Answers with `pods` and `allocatable`, or with a status code in their place; waits `delay_seconds` before."""

    def __init__(self, socket):
        self.pods, self.allocatable = pods(), allocatable()
        self.delay_seconds = 0.0
        self._server = grpc.server(ThreadPoolExecutor(2))
        handlers = {
            "List": grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(self.pods, context)),
            "GetAllocatableResources": grpc.unary_unary_rpc_method_handler(
                lambda _, context: self._answer(self.allocatable, context)
            ),
        }
        service = grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers)
        self._server.add_generic_rpc_handlers([service])
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    def _answer(self, answer, context):
        time.sleep(self.delay_seconds)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the test wants it")
        return answer if isinstance(answer, bytes) else answer.SerializeToString()
