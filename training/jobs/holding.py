"""Why jobs of a launch do not start at once, and how long they may wait. Called by the launch, in its transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.models import Device, Host
from training.jobs import admission
from training.jobs.admission import HELD_FOR, JOIN_WITHIN, ORDER_LIFETIME


class Wait(NamedTuple):
    """Why a job does not start at once, "" where it may; how long it may wait; and whether its order is held back."""

    reason: str
    lifetime: timedelta
    is_held: bool


def each(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Wait]:
    """Return it for jobs that start each by itself."""
    room, watts = admission.room(), admission.watts_of([device for _, device in targets])
    waits = []
    for host, device in targets:
        why = room.take(watts.get(device.uuid))
        waits.append(Wait(why or _silence(host, now), HELD_FOR if why else ORDER_LIFETIME, is_held=bool(why)))
    return waits


def as_one(targets: Sequence[tuple[Host, Device]], now: datetime) -> list[Wait]:
    """Return it for the ranks of a distributed job, of which all start or none: it is the same for all."""
    room, watts = admission.room(), admission.watts_of([device for _, device in targets])
    silent = admission.waiting_for([host for host, _ in targets], now)
    why = silent or room.take_all([watts.get(device.uuid) for _, device in targets])
    lifetime = ORDER_LIFETIME if silent else HELD_FOR if why else JOIN_WITHIN
    return [Wait(why, lifetime, is_held=bool(why))] * len(targets)


def _silence(host: Host, now: datetime) -> str:
    if host.is_silent(now):
        return f"waiting for {host.name}, which is silent; the order expires in {ORDER_LIFETIME.seconds // 60} minutes"
    return ""
