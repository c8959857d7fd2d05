"""What the agent tells the job's process to do, and the ways in which that cannot be done. No torch: read before it loads."""

import json
from dataclasses import dataclass, replace
from typing import Any

from training.workloads.catalog import validate
from training.workloads.params import ParamsInvalid

LEFT = "lost the other ranks: "  # how a reason begins where the cause is likely to be found at another rank


class CannotRun(Exception):
    """The job cannot be run, or its result would not be honest; the text is the reason that people see."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Which rank this process is, and where the ranks meet; `listener` is rank 0's open socket, a file descriptor."""

    rank: int
    world_size: int
    token: str
    address: str
    port: int
    listener: int | None


@dataclass(frozen=True, slots=True)
class Order:
    """One job of this process. Its steps go to the datagram socket at `socket_path` under `run` and `launch`.

    `meeting` is None where it runs alone.
    """

    workload: str
    params: dict[str, Any]
    device_kind: str
    device_uuid: str
    driver_version: str
    run: str
    launch: str
    socket_path: str
    meeting: Meeting | None = None


def read(text: str) -> Order:
    """Return the order with its parameters complete. Raises CannotRun where it does not fit the catalogue."""
    try:
        told = json.loads(text)
        meeting = Meeting(**told["meeting"]) if told.get("meeting") else None
        order = Order(**{**told, "meeting": meeting})
        workload, params = validate(order.workload, order.params)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, ParamsInvalid) else f"the order cannot be read: {error}"
        raise CannotRun(reason) from error
    return replace(order, workload=workload.name, params=params)
