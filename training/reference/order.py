"""What the agent tells the job's process to do, and the ways in which that cannot be done. No torch: read before it loads."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from training.params import ParamsInvalid
from training.workloads import validate


class CannotRun(Exception):
    """The job cannot be run, or its result would not be honest; the text is the reason that people see."""


@dataclass(frozen=True, slots=True)
class Order:
    """One job of this process. Its steps go to the datagram socket at `socket_path` under `run` and `launch`."""

    workload: str
    params: dict[str, Any]
    device_kind: str
    device_uuid: str
    driver_version: str
    run: str
    launch: str
    socket_path: str


def read(text: str) -> Order:
    """Return the order with its parameters complete. Raises CannotRun where it does not fit the catalogue."""
    try:
        order = Order(**json.loads(text))
        workload, params = validate(order.workload, order.params)
    except (ValueError, TypeError) as error:
        reason = str(error) if isinstance(error, ParamsInvalid) else f"the order cannot be read: {error}"
        raise CannotRun(reason) from error
    return Order(**{**asdict(order), "workload": workload.name, "params": params})
