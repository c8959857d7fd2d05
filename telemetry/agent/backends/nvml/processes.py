"""Who uses an NVIDIA device: the driver's lists of running processes, their share of the SMs, and whose they are.

Called by device.py every few seconds, on the thread that reads the device.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.errors import DeviceGoneError, DriverAwayError, reason_of
from telemetry.agent.backends.nvml.ranges import believable
from telemetry.agent.backends.ownership import Owner, describe
from telemetry.message.wire import NO_PID, DeviceProcess

_log = logging.getLogger(__name__)

_MAX_PROCESSES = 500  # of one device; all of a board's eight fit into one message
_STALE_MICROSECONDS = 10_000_000
_STAMP_CEILING = 2**62

Rows = list[Any] | None  # one of the driver's lists

# Of those that compute and of those that draw; by what the driver has: version 2 before driver 510.
_LISTS: tuple[tuple[Callable[[Any], list[Any]], Callable[[Any], list[Any]]], ...] = (
    (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
    (pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
)


class SmShares:
    """The share of the SMs by process; keeps, for one device, up to when its samples were read."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = 0

    def read(self, handle: Any) -> dict[int, float]:
        """Return the newest share by pid, 0 to 1, of the processes that the driver has a new sample of.

        Idle processes have none, and under MIG no process has.
        """
        if self._since > self._clock() * 1e6 + _STALE_MICROSECONDS:
            self._since = 0  # the clock was set back, and the driver's stamps with it
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, self._since)
        except pynvml.NVMLError:
            return {}  # that there is no new sample is an error as well: NOT_FOUND, or the code of success
        newest: dict[int, tuple[int, float]] = {}
        for sample in samples:
            if sample.timeStamp < _STAMP_CEILING and sample.timeStamp >= newest.get(sample.pid, (0, 0))[0]:
                newest[sample.pid] = (sample.timeStamp, sample.smUtil)
        self._since = max((stamp for stamp, _ in newest.values()), default=self._since)
        # The first call gets all that the driver has kept, also of processes that have been idle since.
        oldest = self._since - _STALE_MICROSECONDS
        return {pid: percent / 100 for pid, (stamp, percent) in newest.items() if stamp >= oldest and percent <= 100}


def read_processes(
    handle: Any, shares: SmShares, describe: Callable[[int], Owner] = describe
) -> list[DeviceProcess] | None:
    """Return the processes of a device, those with the most memory first, None where the driver does not tell.

    Each process of another PID namespace that the driver shows without its number stands there with NO_PID. A lost device may
    answer with an empty list: the caller knows that it is lost and does not ask.
    """
    try:
        computing, drawing = (_running(handle, newest, older) for newest, older in _LISTS)
    except (DeviceGoneError, DriverAwayError):
        return None
    if computing is None and drawing is None:
        return None
    used = [*_with_a_pid(computing, drawing), *_without_a_pid(computing, drawing)]
    if not used:
        return []
    used.sort(key=lambda each: each.memory_bytes or 0, reverse=True)
    if len(used) > _MAX_PROCESSES:
        _log.warning("a device has %d processes: the %d with the most memory are shown", len(used), _MAX_PROCESSES)
    found = shares.read(handle)
    return [
        each if each.pid == NO_PID else _of_somebody(each, found.get(each.pid), describe(each.pid))
        for each in used[:_MAX_PROCESSES]
    ]


def _of_somebody(process: DeviceProcess, sm_ratio: float | None, owner: Owner) -> DeviceProcess:
    return replace(
        process,
        command=owner.command,
        user=owner.user,
        sm_ratio=sm_ratio,
        container=owner.container,
        slurm_job=owner.slurm_job,
    )


def _with_a_pid(computing: Rows, drawing: Rows) -> list[DeviceProcess]:
    """Return each process once. It only draws where the driver tells of those that compute, and it is not among them."""
    only = set() if computing is None else {row.pid for row in drawing or ()} - {row.pid for row in computing}
    memory = _memory_by_pid([rows for rows in (computing, drawing) if rows is not None])
    return [DeviceProcess(pid, memory_bytes=used, only_draws=pid in only) for pid, used in memory.items()]


def _memory_by_pid(lists: list[list[Any]]) -> dict[int, int | None]:
    """Return bytes by pid, None where not known.

    A process stands in both lists with the same memory where it computes and draws, and once for each MIG instance.
    """
    parts: dict[tuple[int, int, int], int | None] = {}
    for rows in lists:
        for row in rows:
            if row.pid == NO_PID:
                continue
            key = (row.pid, row.gpuInstanceId, row.computeInstanceId)
            seen, used = parts.get(key), _believed(row.usedGpuMemory)
            parts[key] = used if seen is None else max(seen, used or 0)
    memory: dict[int, int | None] = {}
    for (pid, _, _), part in parts.items():
        so_far = memory.get(pid, 0)
        memory[pid] = None if so_far is None or part is None else so_far + part
    return memory


def _without_a_pid(computing: Rows, drawing: Rows) -> list[DeviceProcess]:
    """Return each process that is shown as process 0.

    What stands in both lists with the same memory in the same instance is taken for one that computes and draws.
    """
    compute, draw = _hidden(computing), _hidden(drawing)
    both = [DeviceProcess(NO_PID, memory_bytes=memory) for _, _, memory in compute.elements()]
    is_told = computing is not None
    only = (draw - compute).elements()
    return [*both, *(DeviceProcess(NO_PID, memory_bytes=memory, only_draws=is_told) for _, _, memory in only)]


def _hidden(rows: Rows) -> Counter[tuple[int, int, int | None]]:
    """Return how many of a list are shown as process 0, by instance and memory."""
    hidden = (row for row in rows or () if row.pid == NO_PID)
    return Counter((row.gpuInstanceId, row.computeInstanceId, _believed(row.usedGpuMemory)) for row in hidden)


def _believed(used_bytes: int | None) -> int | None:
    return used_bytes if used_bytes is not None and used_bytes <= believable("memory_used_bytes")[1] else None


def _running(handle: Any, newest: Callable[[Any], list[Any]], older: Callable[[Any], list[Any]]) -> Rows:
    """Return a list, None where the driver does not give it. Raises DeviceGoneError and DriverAwayError."""
    try:
        try:
            return newest(handle)
        except pynvml.NVMLError_FunctionNotFound:
            return older(handle)
    except pynvml.NVMLError as error:
        _log.debug("a list of running processes is not told: %s", reason_of(error.value))
        return None
