"""What the agent itself costs: read by the node's backend at each tick, so that it travels as any metric does.

Two system calls and a few additions: measuring must not be what is measured.
"""

import os
import resource
from collections.abc import Callable, Mapping

from telemetry.agent.backends.protocol import Reading

_PAGE_BYTES = resource.getpagesize()


class OwnCost:
    """`lateness` is the sampler's, in seconds; `sender` tells its counts; `refused` counts the step socket's datagrams."""

    def __init__(
        self,
        lateness: Callable[[], float],
        sender: Callable[[], Mapping[str, float]],
        refused: Callable[[], int],
    ) -> None:
        self._lateness, self._sender, self._refused = lateness, sender, refused
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # stays open: reading it again is cheap

    def __call__(self) -> dict[str, Reading]:
        """Return the agent's metrics of the catalogue (`agent_…`)."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "agent_cpu_seconds_total": used.ru_utime + used.ru_stime,
            "agent_resident_bytes": int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES,
            "agent_tick_lateness_seconds": self._lateness(),
            "agent_step_frames_refused_total": self._refused(),
            **self._sender(),
        }
