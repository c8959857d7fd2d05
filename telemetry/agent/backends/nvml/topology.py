"""How NVIDIA devices are joined: NVLink, the way over PCIe, and the NUMA node, in the words of `nvidia-smi topo`.

Called by backend.py at `open`, with the boards' handles: MIG instances have no links of their own.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pynvml

from telemetry.message.wire import Topology

_log = logging.getLogger(__name__)

# The legend of `nvidia-smi topo -m`; two devices of one board are joined by that board's own switch.
_WAYS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "PIX",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
_NODE_BITS = 64
_NODE_WORDS = 16  # 1,024 NUMA nodes, the kernel's highest number

_Address = tuple[int, int, int]  # PCI domain, bus, device


@dataclass(slots=True)
class _Links:
    """The active NVLinks of one device: how many lead to a switch, and how many to each PCI address."""

    to_switch: int = 0
    to_address: Counter[_Address] = field(default_factory=Counter)


def read_topology(handles: Mapping[str, Any], sys: Path = Path("/sys")) -> Topology | None:
    """Return the ways between the devices and their NUMA nodes; what the driver does not tell is left out.

    `handles` are by UUID. None where nothing is known at all.
    """
    addresses = {uuid: address for uuid, handle in handles.items() if (address := _address_of(handle)) is not None}
    links = {uuid: _links_of(handle) for uuid, handle in handles.items()}
    ways = []
    for one, other in combinations(handles, 2):
        n = _n_between(links[one], links[other], addresses.get(one), addresses.get(other))
        way = f"NV{n}" if n else _way_over_pcie(handles[one], handles[other])
        if way:
            ways.append((one, other, way))
    nodes = {uuid: _numa_node(handle, addresses.get(uuid), sys) for uuid, handle in handles.items()}
    numa = {uuid: node for uuid, node in nodes.items() if node is not None}
    return Topology(ways, numa) if ways or numa else None


def _address_of(handle: Any) -> _Address | None:
    try:
        pci = pynvml.nvmlDeviceGetPciInfo(handle)
    except pynvml.NVMLError as error:
        _log.debug("a device does not tell its PCI address: %s", error)
        return None
    return (pci.domain, pci.bus, pci.device)


def _links_of(handle: Any) -> _Links:
    found = _Links()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if pynvml.nvmlDeviceGetNvLinkState(handle, link) != pynvml.NVML_FEATURE_ENABLED:
                continue
            if _leads_to_switch(handle, link):
                found.to_switch += 1
            else:
                pci = pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link)
                found.to_address[pci.domain, pci.bus, pci.device] += 1
        except pynvml.NVMLError_InvalidArgument:
            break  # beyond the last link of this model
        except pynvml.NVMLError as error:
            _log.debug("NVLink %d is not told: %s", link, error)
    return found


def _leads_to_switch(handle: Any, link: int) -> bool:
    try:
        kind: int = pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
    except pynvml.NVMLError:
        return False  # before driver 470: then the address tells, where it is a device's
    return bool(kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH)


def _n_between(one: _Links, other: _Links, address: _Address | None, other_address: _Address | None) -> int:
    """Return how many NVLinks join two devices: those that lead from one to the other, else those over the switches.

    All switches of a host are one fabric; a device with fewer active links than another is the narrower end.
    """
    there = one.to_address[other_address] if other_address else 0
    back = other.to_address[address] if address else 0
    return max(there, back) or min(one.to_switch, other.to_switch)


def _way_over_pcie(one: Any, other: Any) -> str | None:
    try:
        return _WAYS.get(pynvml.nvmlDeviceGetTopologyCommonAncestor(one, other))
    except pynvml.NVMLError as error:
        _log.debug("the way between two devices is not told: %s", error)
        return None


def _numa_node(handle: Any, address: _Address | None, sys: Path) -> int | None:
    """Return the NUMA node whose processors and memory are nearest, as `nvidia-smi topo` calls the affinity.

    Not nvmlDeviceGetNumaNodeId: that is the node which the device's own memory makes up on Grace.
    """
    if address is not None:
        domain, bus, device = address
        try:
            node = int((sys / f"bus/pci/devices/{domain:04x}:{bus:02x}:{device:02x}.0/numa_node").read_text())
        except (OSError, ValueError):
            node = -1  # as the kernel itself says where the firmware does not tell it
        if node >= 0:
            return node
    return _node_by_driver(handle)


def _node_by_driver(handle: Any) -> int | None:
    try:
        words = pynvml.nvmlDeviceGetMemoryAffinity(handle, _NODE_WORDS, pynvml.NVML_AFFINITY_SCOPE_NODE)
    except pynvml.NVMLError as error:
        _log.debug("a device's NUMA node is not told: %s", error)
        return None
    nodes = [_NODE_BITS * i + bit for i, word in enumerate(words) for bit in range(_NODE_BITS) if word >> bit & 1]
    return nodes[0] if len(nodes) == 1 else None  # near to several nodes is near to none
