"""What the agent gives to its extensions (the job runner of the upper package): identity, folders, and a way to send.

An extension is a Celery task module with a function `attach(context)`; the host's app names it as a string.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from telemetry.agent.orders import OrderDesk
from telemetry.agent.steps import Handler
from telemetry.message.wire import DeviceInfo

CargoSource = Callable[[int], Sequence[bytes]]  # gives pieces of at most so many bytes in all


class Submit(Protocol):
    def __call__(
        self, task: str, payload: bytes, *, replaces: str = "", on_sent: Callable[[], None] | None = None
    ) -> None:
        """Queue a message for the server and return at once.

        It takes the place of one that still waits under the same `replaces`. `on_sent` runs on the sender's thread
        once the broker has it.
        """


@dataclass(frozen=True, slots=True)
class AgentContext:
    """`directory` is the agent's own folder (0700); `socket_path` is where loops send their step timings.

    Every order passes `orders` before a task does anything of what it says.
    """

    host: str
    directory: Path
    socket_path: Path
    job_python: str
    job_address: str  # as the setting has it: an address, an interface, or ""
    broker_host: str
    submit: Submit
    orders: OrderDesk
    # Seconds to add for the server's clock, and their error's bound.
    clock_offset: Callable[[], tuple[float, float] | None]
    devices: Callable[[], list[DeviceInfo]]
    on_frames: Callable[[Handler], None]  # registers who gets the step listener's frames
    on_cargo: Callable[[str, CargoSource], None]  # registers what goes along with the batches under a name
    # Registers what is called once when the agent is told to end, and takes seconds at most; what it submits is still sent.
    on_end: Callable[[Callable[[], None]], None]


class Extension(Protocol):
    def attach(self, context: AgentContext) -> None:
        """Called once, before the worker takes its first order."""
