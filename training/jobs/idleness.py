"""Whether a CPU does other work: what its telemetry says of its cores in the last minute. Reads only.

Asked by what starts only where a host is idle: schedules, and the fresh runs that follow a suspicion. An accelerator is idle
where nobody uses it (readiness.py). A CPU that does not tell what its cores do is not refused; one whose agent has just been
started, and has told of hardly a moment, is waited for.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from django.db.models import Max

from fleet import units
from fleet.models import Device, DeviceKind, Host
from telemetry.catalog import AbsentReason
from telemetry.store import samples
from telemetry.store.latest import of_ids
from training.jobs.readiness import Hindrance
from training.models import ReferenceJob

BUSY_FROM = 0.125  # of all cores; on two of them this is what marks a result as contaminated (FOREIGN_CORES)
WINDOW = timedelta(seconds=60)
_LEAST_MS = 5_000  # so much must be known of the minute
_SETTLED_MS = 3_000  # after a job's end: its own work is no other's
_METRIC = "gpu_utilization_ratio"  # of a CPU: the share of time that its cores were busy


def hindrances(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Hindrance]:
    """Return the CPUs among the targets that were busy on the mean of the last minute, or since their host's last job."""
    found = []
    for host, device in targets:
        words = _why_not_idle(host, device, now) if device.kind == DeviceKind.CPU else ""
        found += [Hindrance(host.name, device.title, words)] if words else []
    return found


def _why_not_idle(host: Host, device: Device, now: datetime) -> str:
    """Return what speaks against it, "" where nothing does. The minute ends with the host's newest sample."""
    state = of_ids([host.pk]).get(host.pk)
    if state is None or device.uuid not in state.devices:
        return ""
    newest_ms = state.at_ms
    ended = ReferenceJob.objects.filter(host=host, ended_at__isnull=False).aggregate(at=Max("ended_at"))["at"]
    settled_ms = int(ended.timestamp() * 1000) + _SETTLED_MS if ended is not None else 0
    start_ms = max(newest_ms - int(WINDOW.total_seconds() * 1000), settled_ms)
    if start_ms > newest_ms:
        return ""
    read = samples.raw([device], [_METRIC], start_ms, newest_ms + 1).get((device.uuid, _METRIC), samples.Samples.none())
    busy = float(np.mean(read.values)) if read.values.size else 0.0
    if busy >= BUSY_FROM:
        share, most = units.quantity(busy, "ratio"), units.quantity(BUSY_FROM, "ratio")
        return f"its cores were {share} busy in the last minute (idle is below {most})"
    is_told = bool(read.values.size) or state.devices[device.uuid].absent.get(_METRIC) == AbsentReason.UNKNOWN
    known_ms = newest_ms - int(read.times_ms[0]) + int(read.intervals_ms[0]) if read.values.size else 0
    is_new = is_told and start_ms > settled_ms and known_ms < _LEAST_MS
    return "its agent has just been started: what its cores do is not known yet" if is_new else ""
