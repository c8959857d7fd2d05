"""Asking a host's agent to let go of the driver, so that a GPU can be reset, and to take it up again.

Called by the button and the API. The agent answers with a notice, which becomes an event (telemetry/message/notices.py).
"""

from datetime import datetime, timedelta
from enum import StrEnum

import msgpack

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import DeviceKind, Host, Origin
from telemetry.orders import host_orders

MINUTES, MOST_MINUTES = 10, 240
_LIFETIME = timedelta(minutes=1)  # an agent that hears of it later is not to act: somebody may rely on the driver again
_WITH_DRIVER = (DeviceKind.NVIDIA, DeviceKind.AMD)


class Action(StrEnum):
    RELEASE = "release"
    RESUME = "resume"

    @property
    def task(self) -> str:
        return f"host.{self}_driver"


class OrderRefused(Exception):
    """The order was not sent; the text says why. `is_broker` where the broker is at fault, not the order."""

    def __init__(self, message: str, field: str, *, is_broker: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.is_broker = is_broker


def can_be_asked(host: Host) -> bool:
    """Tell whether the host has a driver to let go of, and an agent that takes orders."""
    is_live = host.origin == Origin.REAL and bool(host.public_key)
    return is_live and any(device.kind in _WITH_DRIVER for device in host.devices.all())


def order(host: Host, action: Action, minutes: int, actor: Actor, now: datetime) -> None:
    """Note the order in the audit log, then send it. Raises OrderRefused: nothing was sent.

    So none is out of which the log knows nothing; of one that the broker did not take the log says so by a second entry.
    """
    if not 1 <= minutes <= MOST_MINUTES:
        raise OrderRefused(f"minutes: expected 1 to {MOST_MINUTES}, found {minutes}", "minutes")
    if not can_be_asked(host):
        raise OrderRefused(f"{host.name} has no driver that an agent could let go of", "name")
    if host.is_silent(now):
        raise OrderRefused(f"{host.name} is silent: its agent would not hear of it", "name")
    body = bytes(msgpack.packb({"minutes": minutes, "by": actor.name}))
    audit.record(actor.name, f"driver.{action}", host.name, {"minutes": minutes}, actor.address)
    if not host_orders.send(action.task, host, body, now + _LIFETIME):
        audit.record(actor.name, "driver.not_sent", host.name, {"order": f"driver.{action}"}, actor.address)
        raise OrderRefused("the broker is not reached: try again in a moment", "", is_broker=True)
