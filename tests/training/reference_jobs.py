"""Hosts that can run reference jobs, and jobs in any state, for tests."""

from datetime import timedelta

from django.utils import timezone

from fleet.models import Device, DeviceKind, Host
from training.models import JobState, ReferenceJob

RESULT = {
    "samples_per_second": 12.5,
    "step_seconds_median": 0.32,
    "achieved_flops_per_second": 2.5e12,
    "loss_start": 4.0,
    "loss_end": 3.0,
}


def ready_host(name: str = "a", *kinds: DeviceKind, **fields: object) -> Host:
    """Return a host that reports, with one device of each kind (a GPU where none is named)."""
    now = timezone.now()
    host = Host.objects.create(name=name, **{"last_seen_at": now, "heard_at": now, **fields})
    for kind in kinds or (DeviceKind.NVIDIA,):
        Device.objects.create(host=host, uuid=f"{kind}-{name}", kind=kind, index=0, model=f"model {kind}")
    return host


def existing_job(host: Host, state: JobState = JobState.QUEUED, **fields: object) -> ReferenceJob:
    now = timezone.now()
    defaults = {
        "launch": "ab",
        "workload": "gpt-train",
        "device": host.devices.first(),
        "time_limit_seconds": 900,
        "requested_by": "ada",
        "created_at": now,
        "expires_at": now + timedelta(minutes=10),
    }
    return ReferenceJob.objects.create(host=host, state=state, **defaults | fields)
