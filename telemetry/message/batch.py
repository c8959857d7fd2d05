"""What a host's agent tells in one message: the batch and its parts, as records. No Django.

Made by the agent's batcher and read by the ingest and the store, which take them from telemetry.message.wire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from telemetry.catalog import AbsentReason


class DeviceKind(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    TPU = "tpu"
    CPU = "cpu"
    NODE = "node"  # the host as a whole: its power at the wall, its memory, its agent


class EventKind(StrEnum):
    """What the driver reports as it happens, not as a level."""

    XID = "xid"  # `code` is the XID
    CLOCK = "clock"  # the clocks changed; `code` is the clock event reasons' bit mask then


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device is, apart from its readings. `uuid` identifies it; `index` is only shown.

    `parent` is the uuid of the device that a MIG instance is a part of, `profile` its size such as "1g.10gb"; its `index`
    is the GPU instance's id, as nvidia-smi (GI ID) and dcgm-exporter (GPU_I_ID) show it.
    """

    uuid: str
    kind: DeviceKind
    index: int
    model: str
    pci_bus_id: str = ""
    driver_version: str = ""
    parent: str = ""
    profile: str = ""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """`count` equal events of one device between `at_ms` (the first) and the next batch, UTC milliseconds."""

    uuid: str
    kind: EventKind
    code: int
    at_ms: int
    count: int = 1


NO_PID = 0  # the driver's number for a process of another PID namespace than the agent's


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that uses a device. What `/proc` or the driver does not tell is None or ""; of the number, NO_PID.

    `only_draws`: it has a graphics context and, as the driver's other list says, none for computing; as a display server.
    """

    pid: int
    command: str = ""
    user: str = ""
    memory_bytes: int | None = None
    sm_ratio: float | None = None
    container: str = ""
    slurm_job: str = ""
    only_draws: bool = False

    @property
    def is_hidden(self) -> bool:
        """Tell whether it is known by the driver alone: the agent's `/proc` has no such process."""
        return self.pid == NO_PID or not (self.command or self.user)


@dataclass(frozen=True, slots=True)
class Topology:
    """How devices are joined: `links` has (uuid, uuid, way) once a pair, `numa` the NUMA node by uuid.

    The ways are those of `nvidia-smi topo`: NV<n> (n NVLinks), PIX, PXB, PHB, NODE, SYS.
    """

    links: Sequence[tuple[str, str, str]] = ()
    numa: Mapping[str, int] = field(default_factory=dict)


Cargo = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one host over some ticks.

    `times_ms` are UTC milliseconds, `(n_ticks,)`, ascending within a batch: a wall clock that jumps ends the batch
    and begins the next `segment`. `columns[metric][device]` is `(n_ticks,)` in base units, None where absent;
    `absent[uuid][metric]` says why the last tick has no reading. `(host, epoch, sequence)` names the batch for ever.
    `processes[uuid]` is whole where it stands, and not looked at in this batch where it does not; so are `software` and
    `topology`, which come with an epoch's first batch and after a change. `machine` tells machines apart, 32 hex digits.
    `cargo[name]` is what the upper package has to tell by way of the batch, which nobody below it reads.
    """

    host: str
    epoch: str
    sequence: int
    segment: int
    sent_ms: int
    times_ms: Sequence[int]
    devices: Sequence[DeviceInfo]
    columns: Mapping[str, Sequence[Sequence[float | None]]]
    absent: Mapping[str, Mapping[str, AbsentReason]] = field(default_factory=dict)
    software: Mapping[str, str] | None = None
    sample_seconds: float = 1.0
    machine: str = ""
    events: Sequence[DeviceEvent] = ()
    processes: Mapping[str, Sequence[DeviceProcess]] = field(default_factory=dict)
    topology: Topology | None = None
    cargo: Cargo = field(default_factory=dict)
