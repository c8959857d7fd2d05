"""What the agent itself costs: read by the node's backend at each tick, so that it travels as any metric does.

Two system calls and a few additions every few seconds: measuring must not be what is measured.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence

from telemetry.agent.backends.kernel import boot_seconds
from telemetry.agent.backends.pace import KEPT_SECONDS, next_due
from telemetry.agent.backends.protocol import Reading

_PAGE_BYTES = resource.getpagesize()


class OwnCost:
    """`lateness` is the sampler's, in seconds; `told` are what outbox and clock offset tell; `refused` counts datagrams."""

    def __init__(
        self,
        lateness: Callable[[], float],
        told: Sequence[Callable[[], Mapping[str, Reading]]],
        refused: Callable[[], int],
        *,
        clock: Callable[[], float] = boot_seconds,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._lateness, self._told, self._refused = lateness, told, refused
        self._clock, self._kept_seconds = clock, kept_seconds
        self._kept: dict[str, Reading] = {}
        self._due = float("-inf")
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # stays open: reading it again is cheap

    def __call__(self) -> dict[str, Reading]:
        """Return the agent's metrics of the catalogue (`agent_…`, `host_clock_…`); lateness is each tick's own."""
        now = self._clock()
        if now >= self._due:
            self._due = next_due(now, self._kept_seconds)
            self._kept = self._count()
        return {**self._kept, "agent_tick_lateness_seconds": self._lateness()}

    def _count(self) -> dict[str, Reading]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        readings: dict[str, Reading] = {
            "agent_cpu_seconds_total": used.ru_utime + used.ru_stime,
            "agent_resident_bytes": int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES,
            "agent_step_frames_refused_total": self._refused(),
        }
        for tell in self._told:
            readings.update(tell())
        return readings
