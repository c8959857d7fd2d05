"""What a job's device may draw at most, for the power budget, and by what that is known. Reads only.

Its power limit; else the TDP of its model in the hardware catalogue; else what it draws now, which is no upper bound. Where
none of them is known that is said, and never counted as nothing. Called by admission.py and what asks it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings

from fleet import units
from fleet.models import Device
from telemetry.store import latest
from training.utilisation import hardware


class Draw(NamedTuple):
    """Watts, None where nothing is known; `source` says by what, or of what nothing is known."""

    watts: float | None
    source: str

    def __str__(self) -> str:
        return f"{units.quantity(self.watts, 'watts')} ({self.source})"


UNKNOWN = Draw(None, "no device")


def draws_of(devices: Sequence[Device]) -> dict[str, Draw]:
    """Return what each device may draw, by UUID; nothing where no power budget is set."""
    if settings.STEPWATT_JOBS_POWER_WATTS is None or not devices:
        return {}
    known = latest.of_hosts([device.host for device in devices])
    found = {}
    for device in devices:
        newest = known.get(device.host_id)
        values = newest.devices[device.uuid].values if newest is not None and device.uuid in newest.devices else {}
        found[device.uuid] = _draw(device, values)
    return found


def _draw(device: Device, values: dict[str, float]) -> Draw:
    if (limit := values.get("power_limit_watts")) is not None:
        return Draw(limit, "its power limit")
    known = hardware.find(device.model, values.get("memory_total_bytes")).hardware
    if known is not None and known.tdp_watts is not None:
        return Draw(known.tdp_watts.value, f"no limit is told: the TDP of {known.name}")
    if (now := values.get("power_draw_watts")) is not None:
        return Draw(now, "no limit is told: what it draws now")
    return Draw(None, f"{device.title} of {device.host.name}")
