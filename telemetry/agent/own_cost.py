"""What the agent itself costs: read by the node's backend at each tick, so that it travels as any metric does.

Two system calls and a few additions: measuring must not be what is measured.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence

from telemetry.agent.backends.protocol import Reading

_PAGE_BYTES = resource.getpagesize()


class OwnCost:
    """`lateness` is the sampler's, in seconds; `told` are what outbox and clock offset tell; `refused` counts datagrams."""

    def __init__(
        self,
        lateness: Callable[[], float],
        told: Sequence[Callable[[], Mapping[str, Reading]]],
        refused: Callable[[], int],
    ) -> None:
        self._lateness, self._told, self._refused = lateness, told, refused
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # stays open: reading it again is cheap

    def __call__(self) -> dict[str, Reading]:
        """Return the agent's metrics of the catalogue (`agent_…`, `host_clock_…`)."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        readings: dict[str, Reading] = {
            "agent_cpu_seconds_total": used.ru_utime + used.ru_stime,
            "agent_resident_bytes": int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES,
            "agent_tick_lateness_seconds": self._lateness(),
            "agent_step_frames_refused_total": self._refused(),
        }
        for tell in self._told:
            readings.update(tell())
        return readings
