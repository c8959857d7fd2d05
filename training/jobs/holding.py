"""Why jobs of a launch do not start at once, and how long they may wait. Called by the launch, in its transaction.

An order is not sent to a host that is silent: what spoke for starting it may be otherwise when the host is back, so that the job
is looked at again then (releasing.py).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet import units
from fleet.models import Device, Host
from training.jobs import admission
from training.jobs.admission import HELD_FOR, JOIN_WITHIN, ORDER_LIFETIME
from training.jobs.drawing import UNKNOWN, draws_of

FOR_ITS_HOST = "waits for its host: "  # and then which, and until when
FOR_ITS_DEVICE = "waits for its device: "  # and then who has it


class Wait(NamedTuple):
    """Why a job does not start at once, "" where it may; how long it may wait; and whether its order is held back."""

    reason: str
    lifetime: timedelta
    is_held: bool


def each(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Wait]:
    """Return it for jobs that start each by itself."""
    room, draws = admission.room(), draws_of([device for _, device in targets])
    waits = []
    for host, device in targets:
        if host.is_silent(now):
            waits.append(Wait(silence(host, now + ORDER_LIFETIME), ORDER_LIFETIME, is_held=True))
            continue
        why = room.take(draws.get(device.uuid, UNKNOWN))
        waits.append(Wait(why, HELD_FOR if why else ORDER_LIFETIME, is_held=bool(why)))
    return waits


def as_one(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Wait]:
    """Return it for the ranks of a distributed job, of which all start or none: it is the same for all."""
    room, draws = admission.room(), draws_of([device for _, device in targets])
    silent = of_all([host for host, _ in targets], now)
    why = silent or room.take_all([draws.get(device.uuid, UNKNOWN) for _, device in targets])
    lifetime = ORDER_LIFETIME if silent else HELD_FOR if why else JOIN_WITHIN
    return [Wait(why, lifetime, is_held=bool(why))] * len(targets)


def silence(host: Host, until: datetime) -> str:
    return f"{FOR_ITS_HOST}{host.name} is silent; it starts when that is back, and is given up at {units.utc(until)}"


def of_all(hosts: Sequence[Host], now: datetime) -> str:
    """Say which hosts a distributed job waits for, "" where all are there."""
    silent = sorted({host.name for host in hosts if host.is_silent(now)})
    return (
        f"waits: {', '.join(silent)} silent, and a distributed job starts on all its hosts or on none" if silent else ""
    )
