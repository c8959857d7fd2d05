"""Which devices Kubernetes has given to pods, from the kubelet's pod-resources service (gRPC on a Unix socket of the node).

Called by allocation.py on a thread of its own. grpcio (extra `kubernetes`) is imported only where the socket is. The messages
are read here: of their fields four matter. Source: k8s.io/kubelet/pkg/apis/podresources/v1/api.proto.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from telemetry.agent.backends.allocation_given import Answer, Given
from telemetry.catalog import AbsentReason

logger = logging.getLogger(__name__)

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
_LIST = "/v1.PodResourcesLister/List"
_ALLOCATABLE = "/v1.PodResourcesLister/GetAllocatableResources"
_DEADLINE_SECONDS = 2.0
_OPTIONS = [("grpc.max_receive_message_length", 16 * 2**20), ("grpc.default_authority", "localhost")]

_POD, _CONTAINER, _DEVICES, _DEVICE_ID = 1, 3, 2, 2  # List: pod_resources → containers → devices → device_ids
_ALLOCATABLE_DEVICES = 1
_REPLICA = "::"  # NVIDIA's plugin names a device that is shared "GPU-…::3"

_FIXED = {1: 8, 5: 4}  # protobuf's wire type → bytes; beside it 0, a number, and 2, a length and so many bytes


class Kubelet:
    def __init__(self, socket: Path = SOCKET, *, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._socket, self._deadline = socket, deadline_seconds
        self._said = ""

    def look(self) -> Answer:
        """Return the devices of pods, and those that the kubelet gives away; None where the node has no kubelet."""
        try:
            self._socket.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return AbsentReason.NO_PERMISSION
        if not os.access(self._socket, os.R_OK | os.W_OK):
            return AbsentReason.NO_PERMISSION
        try:
            import grpc
        except ImportError:
            self._say("Kubernetes is on this host, but not what asks it: pip install 'stepwatt-agent[kubernetes]'")
            return AbsentReason.NOT_SUPPORTED
        return self._ask(grpc)

    def _ask(self, grpc: ModuleType) -> Answer:
        # A channel for each look: the kubelet makes its socket anew when it starts again.
        with grpc.insecure_channel(f"unix:{self._socket}", options=_OPTIONS) as channel:
            try:
                taken = device_ids(channel.unary_unary(_LIST)(b"", timeout=self._deadline), _POD, _CONTAINER, _DEVICES)
                return Given(taken, self._managed(grpc, channel))
            except grpc.RpcError as error:
                self._say(f"the kubelet does not tell who has which device: {error.details()}")
                return _reason(grpc.StatusCode, error)
            except ValueError as error:
                self._say(f"the kubelet's answer is not understood: {error}")
                return AbsentReason.SCHEDULER_AWAY

    def _managed(self, grpc: ModuleType, channel: Any) -> frozenset[str]:
        """Return what the kubelet may give away; nothing where it does not tell: then it cannot say that a device is free."""
        try:
            answer = channel.unary_unary(_ALLOCATABLE)(b"", timeout=self._deadline)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return frozenset()
            raise
        return device_ids(answer, _ALLOCATABLE_DEVICES)

    def _say(self, text: str) -> None:
        """Write to the log what was not the same at the last look."""
        if text != self._said:
            self._said = text
            logger.warning("%s", text)


def _reason(codes: Any, error: Any) -> AbsentReason:
    return {
        codes.UNIMPLEMENTED: AbsentReason.NOT_SUPPORTED,
        codes.PERMISSION_DENIED: AbsentReason.NO_PERMISSION,
    }.get(error.code(), AbsentReason.SCHEDULER_AWAY)


def device_ids(message: bytes, *way: int) -> frozenset[str]:
    """Return the device ids of the ContainerDevices that the fields of `way` lead to, in lower case but for UUIDs.

    Raises ValueError where the bytes are no message.
    """
    found = [message]
    for number in (*way, _DEVICE_ID):
        found = [content for outer in found for inner, content in _fields(outer) if inner == number]
    return frozenset(_name(content.decode()) for content in found if content)


def _name(device_id: str) -> str:
    name = device_id.partition(_REPLICA)[0]
    return name if name.startswith(("GPU-", "MIG-")) else name.lower()


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of a message's fields of bytes, texts and messages. Raises ValueError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 2:
                length, begin = _varint(message, at)
                at = begin + length
                yield key >> 3, message[begin:at]
            case kind if kind in _FIXED:
                at += _FIXED[kind]
            case kind:
                raise ValueError(f"wire type {kind} at byte {at}")
    if at > len(message):
        raise ValueError(f"it ends within a field, after {len(message)} bytes")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, seven bits a byte with the lowest first, and where it ends."""
    value = 0
    for n, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            return value, at + n + 1
    raise ValueError(f"no number at byte {at}")
