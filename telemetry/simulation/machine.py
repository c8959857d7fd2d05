"""One simulated host: its GPUs, processors and the node as a whole, as the sampler's backend sees them.

Called by the simulated fleet, which hands over the clock and the faults. No Django.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid5

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, EventKind, Topology
from telemetry.simulation.boards import Board
from telemetry.simulation.faults import Fault, FaultKind
from telemetry.simulation.gpu import Condition, Gpu
from telemetry.simulation.instances import divided
from telemetry.simulation.load import IDLE, Load, Task
from telemetry.simulation.node import CPU_WATTS, NAMESPACE, NODE_WATTS, Node
from telemetry.simulation.source import Source

DRIVER = "580.105.08"
_XIDS_OF = {FaultKind.LOST: 79, FaultKind.MEMORY: 94, FaultKind.UNREPLACED: 64, FaultKind.PROGRAM: 31}
_ABSENT = {
    FaultKind.HANGING: AbsentReason.TIMEOUT,
    FaultKind.UNLOADED: AbsentReason.DRIVER_AWAY,
    FaultKind.STUCK: AbsentReason.RESET_REQUIRED,
}
_CONDITIONS = {
    FaultKind.OVERHEATED: Condition(cooling=0.5),
    FaultKind.HOT_MEMORY: Condition(memory_cooling=0.2),
    FaultKind.NARROW: Condition(lanes=8),
    FaultKind.BRAKED: Condition(is_braked=True),
    FaultKind.SLOW: Condition(clock=0.75),
    FaultKind.CORRUPT: Condition(is_corrupt=True),
}
_DELAY_SECONDS = 100.0
_XIDS = ("xid_last", "xid_errors_total")  # heard, not read: known of a device that does not answer as well
_GPU_METRICS = tuple(name for name in BY_NAME if not name.startswith(("host_", "agent_")))


class Machine:
    """Backend of the simulated devices of one host. `clock` gives UTC seconds; `task` is what the GPUs do.

    `has_instances`: its last GPU is divided into MIG instances.
    """

    name = "simulated"
    releasable = False

    def __init__(
        self,
        host: str,
        board: Board,
        n_gpus: int,
        task: Task,
        clock: Callable[[], float],
        seed: str,
        *,
        has_instances: bool = False,
    ) -> None:
        self.host, self.board, self.task = host, board, task
        self.gpus = [Gpu(board, f"{seed}/{index}") for index in range(n_gpus)]
        self.devices = [_gpu_info(host, board, index) for index in range(n_gpus)]
        self._has_instances = has_instances
        self.silent_until = 0.0
        self.full_until = self.skewed_until = self._delayed_until = 0.0
        self.n_batches = self.n_dropped = 0  # counted by its agent
        self._clock = clock
        self._choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self._read_at = [clock() - 1.0] * n_gpus
        self._absent_until: dict[int, tuple[float, AbsentReason]] = {}
        self._better_at: dict[int, float] = {}
        self._given: dict[int, Load] = {}  # what a GPU does instead of the host's task
        self._events: list[DeviceEvent] = []
        self._load_at, self._load = -1.0, IDLE
        self._node = Node(host, self, clock)
        self._pid = 4000 + self._choose.randrange(30_000)

    # The sampler's protocol -------------------------------------------------------------------------------------

    def open(self) -> None:
        gpus = [
            Source(device, partial(self._read, i), partial(self._processes, i)) for i, device in enumerate(self.devices)
        ]
        if self._has_instances:
            gpus[-1:] = divided(gpus[-1], self.board)
        self._sources = [*gpus, *self._node.sources()]

    def sources(self) -> Sequence[Source]:
        return self._sources

    def software(self) -> dict[str, str]:
        return {"driver": DRIVER, "cuda": "13.0", "nccl": "2.27.7", "torch": "2.9.1", "os": "simulated"}

    def topology(self) -> Topology:
        way = f"NV{self.board.n_nvlinks}" if self.board.n_nvlinks else "SYS"
        uuids = [device.uuid for device in self.devices]
        links = [(one, other, way) for n, one in enumerate(uuids) for other in uuids[n + 1 :]]
        return Topology(links, {uuid: 2 * n // len(uuids) for n, uuid in enumerate(uuids)})

    def take_events(self) -> list[DeviceEvent]:
        taken, self._events = self._events, []
        return taken

    def close(self) -> None:
        """Nothing is held."""

    # What happens to it -----------------------------------------------------------------------------------------

    def suffer(self, fault: Fault) -> None:
        gpu, device = self.gpus[fault.device], fault.device
        match fault.kind:
            case kind if kind in _CONDITIONS:
                every = kind is FaultKind.BRAKED
                self._worsen(range(len(self.gpus)) if every else [device], fault.end, _CONDITIONS[kind])
            case FaultKind.LOST:
                self._absent_until[device] = fault.end, AbsentReason.GPU_IS_LOST
                self._xid(device, _XIDS_OF[fault.kind], fault.start)
            case FaultKind.HANGING | FaultKind.UNLOADED | FaultKind.STUCK:
                self._absent_until[device] = fault.end, _ABSENT[fault.kind]
            case FaultKind.MEMORY | FaultKind.UNREPLACED | FaultKind.PROGRAM:
                self._fail(fault)
            case FaultKind.LINK:
                _grow(gpu, "nvlink_replay_errors_total", 40)
                _grow(gpu, "nvlink_errors_total", 40)
            case FaultKind.FULL:
                self.n_dropped += 12
                self.full_until = fault.end
            case FaultKind.SKEWED:
                self.skewed_until = fault.end
            case FaultKind.SILENT:
                self.silent_until = fault.end
            case FaultKind.DELAYED:
                self._delayed_until = fault.end

    def give(self, device: int, load: Load | None) -> None:
        """Have a GPU do this instead of the host's task; None: the task again."""
        if load is None:
            self._given.pop(device, None)
        else:
            self._given[device] = load

    def answers(self, device: int) -> bool:
        return device not in self._absent_until

    def delay_seconds(self) -> float:
        """Return how long what it sends now is under way."""
        return _DELAY_SECONDS if self._clock() < self._delayed_until else 0.0

    def _fail(self, fault: Fault) -> None:
        """What the driver reports as an XID, and counts or flags where the memory is at fault."""
        gpu = self.gpus[fault.device]
        if fault.kind is FaultKind.MEMORY:
            _grow(gpu, "ecc_uncorrected_total", 1)
            _grow(gpu, "remapped_rows_uncorrected_total", 1)
            gpu.counts["row_remap_pending"] = 1
        elif fault.kind is FaultKind.UNREPLACED:
            gpu.counts["row_remap_failure"] = 1
        self._xid(fault.device, _XIDS_OF[fault.kind], fault.start)

    def watts(self) -> float:
        return NODE_WATTS + CPU_WATTS + sum(gpu.watts for gpu in self.gpus)

    def load(self, now: float) -> Load:
        if now != self._load_at:
            self._load_at, self._load = now, self.task.at(now)
        return self._load

    def _worsen(self, devices: Sequence[int], until: float, condition: Condition) -> None:
        for index in devices:
            self.gpus[index].condition = replace(condition)
            self._better_at[index] = until

    def _xid(self, device: int, code: int, at: float) -> None:
        gpu = self.gpus[device]
        gpu.counts["xid_last"] = code
        _grow(gpu, "xid_errors_total", 1)
        self._events.append(DeviceEvent(self.devices[device].uuid, EventKind.XID, code, round(at * 1000)))

    def _read(self, index: int) -> Mapping[str, Reading]:
        now, gpu = self._clock(), self.gpus[index]
        if index in self._better_at and now >= self._better_at[index]:
            del self._better_at[index]
            gpu.condition = Condition()
        until, reason = self._absent_until.get(index, (0.0, AbsentReason.UNKNOWN))
        if now < until:
            heard = {xid: gpu.counts[xid] for xid in _XIDS if xid in gpu.counts}
            return dict.fromkeys(_GPU_METRICS, reason) | heard
        if until:
            del self._absent_until[index]
            if reason is AbsentReason.GPU_IS_LOST:
                gpu.reload_driver()
                self._read_at[index] = now - 1.0
        seconds, self._read_at[index] = now - self._read_at[index], now
        return gpu.advance(seconds, self._load_of(index, now))

    def _load_of(self, index: int, now: float) -> Load:
        return self._given.get(index) or self.load(now)

    def _processes(self, index: int) -> list[DeviceProcess] | None:
        load = self._load_of(index, self._clock())
        if index in self._absent_until:
            return None
        if not load.command:
            return []
        used = int(load.memory * self.board.memory_bytes) // 2**21 * 2**21
        return [DeviceProcess(self._pid + index, load.command, load.user, used, round(load.sm, 2))]


def _grow(gpu: Gpu, name: str, by: int) -> None:
    known = gpu.counts.get(name)
    if isinstance(known, int):
        gpu.counts[name] = known + by


def _gpu_info(host: str, board: Board, index: int) -> DeviceInfo:
    uuid = f"GPU-{uuid5(NAMESPACE, f'{host}/gpu/{index}')}"
    return DeviceInfo(uuid, DeviceKind.NVIDIA, index, board.name, f"00000000:{0x11 + 0x10 * index:02X}:00.0", DRIVER)
