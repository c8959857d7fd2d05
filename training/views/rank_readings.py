"""What the devices of a job read now, together: its one, or those of all ranks. Called by the job page."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.models import Device
from telemetry.newest import queries as telemetry_queries
from telemetry.store import latest
from training.jobs import teams
from training.models import ReferenceJob


class Reading(NamedTuple):
    """A value of one rank's device, None where it gives none or its host is silent."""

    job: ReferenceJob
    value: float | None


def devices(ranks: Sequence[ReferenceJob]) -> list[Device] | None:
    """Return the devices of the ranks, each once; None where one is no longer known."""
    known = {job.device.uuid: job.device for job in ranks if job.device is not None}
    return None if teams.gone(ranks) else list(known.values())


def why_none(ranks: Sequence[ReferenceJob], names: Sequence[str], now: datetime) -> str:
    """Return of whose device none of these readings is known, and why; "" where each device gives one of them."""
    if teams.lacks_ranks(ranks):
        return "a host of the job was removed, and its devices are no longer known"
    lacking = next((job for job in ranks if job.device is None), None)
    if lacking is not None:
        return f"{_place(lacking)}the device is no longer known"
    by_name = [readings(ranks, name, now) for name in names]
    for of_device in zip(*by_name, strict=True):
        job, device = of_device[0].job, of_device[0].job.device
        if device is not None and all(each.value is None for each in of_device):
            return f"{_place(job)}{telemetry_queries.device_state(device, now).why_absent(names[0])}"
    return ""


def _place(job: ReferenceJob) -> str:
    return f"{job.place}: " if job.team_id is not None else ""


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
