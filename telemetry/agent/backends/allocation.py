"""Who has an accelerator: the reading `allocation`, which the collector has put into each full tick. A state, in the codes below.

The order of trust: the kubelet (a pod has it), Slurm (a job has it, by its prolog's files or by a process's job), the
device's processes. That nobody has it is said only where nothing that might know better is silent: unknown is not free.
The schedulers are asked on a thread of their own, since they may be slow; the processes are those that the tick brings.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from telemetry.agent.backends.allocation_given import Answer, Given, Scheduler
from telemetry.agent.backends.allocation_kubelet import SOCKET, Kubelet
from telemetry.agent.backends.allocation_slurm import DIRECTORY, SlurmFiles
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.ticks import Tick
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceKind, DeviceProcess

logger = logging.getLogger(__name__)

METRIC = "allocation"
FREE, PROCESS, SLURM_JOB, POD = range(4)

LOOK_SECONDS = 15.0
STALE_SECONDS = 60.0  # after that neither processes nor schedulers that were not seen again say anything
_ACCELERATORS = frozenset({DeviceKind.NVIDIA, DeviceKind.AMD, DeviceKind.TPU})
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode: PROC_PID_INIT_INO of the kernel's proc_ns.h
# Why a device does not tell its processes, where its other readings say it.
_AWAY = (
    AbsentReason.GPU_IS_LOST, AbsentReason.RESET_REQUIRED, AbsentReason.TIMEOUT, AbsentReason.RELEASED, AbsentReason.DRIVER_AWAY,
)  # fmt: skip


class _Seen(NamedTuple):
    """What the schedulers said; `at` is the clock's."""

    at: float
    kubernetes: Answer
    slurm: Answer


class Allocations:
    """One for each agent. `unhidden` are the kinds of devices whose processes the agent sees all of."""

    def __init__(
        self,
        kubernetes: Scheduler,
        slurm: Scheduler,
        unhidden: frozenset[DeviceKind],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubernetes, self._slurm = kubernetes, slurm
        self._unhidden, self._clock = unhidden, clock
        self._thread: Thread | None = None
        self._seen: _Seen | None = None
        self._processes: dict[str, tuple[float, Sequence[DeviceProcess]]] = {}
        self._found: dict[str, Reading] = {}
        self._found_of: _Seen | None = None
        self._found_among: Mapping[str, DeviceInfo] | None = None  # all devices of the tick that was judged last

    @classmethod
    def of_this_host(cls, env: Mapping[str, str]) -> "Allocations":
        """Return those of the host; STEPWATT_POD_RESOURCES_SOCKET and STEPWATT_SLURM_GPU_DIRECTORY name other places."""
        socket = Path(env.get("STEPWATT_POD_RESOURCES_SOCKET") or SOCKET)
        directory = Path(env.get("STEPWATT_SLURM_GPU_DIRECTORY") or DIRECTORY)
        return cls(Kubelet(socket), SlurmFiles(directory), unhidden_kinds())

    def fill(self, tick: Tick) -> None:
        """Put the reading of each accelerator into the tick. Begins to look at the schedulers with the first."""
        seen = self._seen
        if tick.devices == self._found_among and seen is self._found_of and not tick.processes:
            for uuid, reading in self._found.items():
                tick.add(uuid, METRIC, reading)
            return
        devices = [device for device in tick.devices.values() if device.kind in _ACCELERATORS]
        if not devices:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="allocation", daemon=True)
            self._thread.start()
        if seen is None:  # within the first moments
            return
        if tick.processes or seen is not self._found_of or any(device.uuid not in self._found for device in devices):
            self._judge(tick, devices, seen)
        for device in devices:
            tick.add(device.uuid, METRIC, self._found[device.uuid])

    def look(self) -> None:
        """Ask the schedulers; takes as long as they do."""
        kubernetes, slurm = self._kubernetes.look(), self._slurm.look()
        self._seen = _Seen(self._clock(), kubernetes, slurm)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # the thread's outermost loop: what was seen grows stale, and the next look is tried
                logger.exception("who has the devices of this host cannot be found out")
            time.sleep(LOOK_SECONDS)

    def _judge(self, tick: Tick, devices: Sequence[DeviceInfo], seen: _Seen) -> None:
        """Find every device's reading anew: the processes or what the schedulers say may be others."""
        now = self._clock()
        self._processes.update((uuid, (now, found)) for uuid, found in tick.processes.items())
        self._processes = {
            uuid: (at, found) for uuid, (at, found) in self._processes.items() if now - at <= STALE_SECONDS
        }
        answers = (seen.kubernetes, seen.slurm)
        if now - seen.at > STALE_SECONDS:
            answers = (AbsentReason.SCHEDULER_AWAY, AbsentReason.SCHEDULER_AWAY)
        own = {
            device.uuid: judged(
                device, self._listed(device, tick.readings[device.uuid]), *answers, unhidden=device.kind in self._unhidden
            )
            for device in devices
        }  # fmt: skip
        self._found = own | {
            device.uuid: _whole(own[device.uuid], parts)
            for device in devices
            if (parts := [own[part.uuid] for part in devices if part.parent == device.uuid])
        }
        self._found_of, self._found_among = seen, tick.devices

    def _listed(self, device: DeviceInfo, readings: Mapping[str, Reading]) -> Sequence[DeviceProcess] | AbsentReason:
        listed = self._processes.get(device.uuid)
        if listed is not None:
            return listed[1]
        values = set(readings.values())
        return next((reason for reason in _AWAY if reason in values), AbsentReason.NOT_SUPPORTED)


def judged(
    device: DeviceInfo,
    processes: Sequence[DeviceProcess] | AbsentReason,
    kubernetes: Answer,
    slurm: Answer,
    *,
    unhidden: bool,
) -> Reading:
    """Return who has the device, by the order of trust; why that is not known, where nobody can say."""
    for code, answer in ((POD, kubernetes), (SLURM_JOB, slurm)):
        if isinstance(answer, Given) and answer.has(device):
            return code
    if not isinstance(processes, AbsentReason) and processes:
        return _of_processes(processes)
    for answer in (kubernetes, slurm):
        if isinstance(answer, AbsentReason):
            return answer  # there is a scheduler, and it may have given the device away
    if any(isinstance(answer, Given) and answer.manages(device) for answer in (kubernetes, slurm)):
        return FREE
    if isinstance(processes, AbsentReason):
        return processes
    return FREE if unhidden else AbsentReason.NO_PERMISSION


def unhidden_kinds() -> frozenset[DeviceKind]:
    """Return the kinds of devices of which this process is told every user.

    NVIDIA's driver leaves out what runs in another PID namespace than the asker's, or below it; of the others the agent
    looks into people's processes, which only root may.
    """
    if Path("/proc/self/ns/pid").stat().st_ino != _FIRST_PID_NAMESPACE:
        return frozenset()
    return _ACCELERATORS if os.geteuid() == 0 else frozenset({DeviceKind.NVIDIA})


def _of_processes(processes: Sequence[DeviceProcess]) -> int:
    if any(process.slurm_job for process in processes):
        return SLURM_JOB
    return POD if any(" pod:" in process.container for process in processes) else PROCESS


def _whole(own: Reading, parts: Sequence[Reading]) -> Reading:
    """Return the reading of a device with parts: who has a part of it has it; it is free where all of them are."""
    given = [reading for reading in (own, *parts) if not isinstance(reading, AbsentReason) and reading != FREE]
    if given:
        return max(given)
    return FREE if all(part == FREE for part in parts) else own
