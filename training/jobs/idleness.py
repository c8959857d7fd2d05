"""Whether a CPU does other work: what its telemetry says of its cores in the last minute. Reads only.

Asked by what starts only where a host is idle: schedules, and the fresh runs that follow a suspicion. An accelerator is idle
where nobody uses it (readiness.py). A CPU of which no sample is known is not refused.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from django.db.models import Max

from fleet import units
from fleet.models import Device, DeviceKind, Host
from telemetry.store import samples
from telemetry.store.latest import of_ids
from training.jobs.readiness import Hindrance
from training.models import ReferenceJob

BUSY_FROM = 0.125  # of all cores; on two of them this is what marks a result as contaminated (FOREIGN_CORES)
WINDOW = timedelta(seconds=60)
_SETTLED_MS = 3_000  # after a job's end: its own work is no other's
_METRIC = "gpu_utilization_ratio"  # of a CPU: the share of time that its cores were busy


def hindrances(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Hindrance]:
    """Return the CPUs among the targets that were busy on the mean of the last minute, or since their host's last job."""
    found = []
    for host, device in targets:
        busy = _load(host, device, now) if device.kind == DeviceKind.CPU else None
        if busy is not None and busy >= BUSY_FROM:
            share, most = units.quantity(busy, "ratio"), units.quantity(BUSY_FROM, "ratio")
            words = f"its cores were {share} busy in the last minute (idle is below {most})"
            found.append(Hindrance(host.name, device.title, words))
    return found


def _load(host: Host, device: Device, now: datetime) -> float | None:
    """Return the mean share of busy cores, None where nothing is known. The minute ends with the host's newest sample."""
    state = of_ids([host.pk]).get(host.pk)
    newest_ms = int(now.timestamp() * 1000) if state is None else state.at_ms
    ended = ReferenceJob.objects.filter(host=host, ended_at__isnull=False).aggregate(at=Max("ended_at"))["at"]
    settled_ms = int(ended.timestamp() * 1000) + _SETTLED_MS if ended is not None else 0
    start_ms = max(newest_ms - int(WINDOW.total_seconds() * 1000), settled_ms)
    if start_ms > newest_ms:
        return None
    read = samples.raw([device], [_METRIC], start_ms, newest_ms + 1).get((device.uuid, _METRIC))
    return None if read is None or not read.values.size else float(np.mean(read.values))
