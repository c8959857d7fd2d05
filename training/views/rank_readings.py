"""What the devices of a distributed job read now, together. Called by the job page. One query, however many ranks."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from telemetry.store import latest
from training.models import ReferenceJob


class Reading(NamedTuple):
    """A value of one rank's device, None where it gives none or its host is silent."""

    job: ReferenceJob
    value: float | None


def readings(ranks: Sequence[ReferenceJob], name: str, now: datetime) -> list[Reading]:
    """Return the newest reading of each device of the ranks, each device once."""
    known = latest.of_hosts(list({job.host_id: job.host for job in ranks}.values()))
    found: dict[str, Reading] = {}
    for job in ranks:
        newest, device = known.get(job.host_id), job.device
        if device is not None:
            state = newest.devices.get(device.uuid) if newest is not None and not job.host.is_silent(now) else None
            found[device.uuid] = Reading(job, state.values.get(name) if state is not None else None)
    return list(found.values())


def total(found: Sequence[Reading]) -> float | None:
    """Return the sum, None where one is not known."""
    known = [each.value for each in found if each.value is not None]
    return sum(known) if known and len(known) == len(found) else None


def highest(found: Sequence[Reading]) -> Reading | None:
    known = [each for each in found if each.value is not None]
    return max(known, key=lambda each: each.value or 0.0, default=None)
