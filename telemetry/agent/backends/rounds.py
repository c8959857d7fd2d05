"""A round: all devices of a backend asked for power one after the other, where nothing else is to be thought of.

A tick comes when the processor has long forgotten what the one before it did: each function that it goes through costs more
than a driver's call. So rounds are data, which the lanes go through themselves, and what they bring is looked at with its
batch. Offered by backends (nvml/rounds.py).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from telemetry.agent.backends.deferred import Numbers
from telemetry.agent.backends.protocol import Reading
from telemetry.message.wire import DeviceInfo

Ask = Callable[[], int]  # a driver call with everything in place → its return code, 0 where all is well


class Turn(NamedTuple):
    """What one device is asked in a round."""

    uuid: str
    asks: Sequence[Ask]


class JointConversion(Protocol):
    """What several devices told in one go; numbers by `metrics`, each to be divided by its divisor."""

    metrics: tuple[str, ...]
    divisors: tuple[float, ...]

    def apart(self, raw: bytes) -> Iterator[Mapping[str, Reading]]:
        """Yield one tick's readings, device by device."""

    def columns(self, raws: Sequence[bytes]) -> Sequence[Numbers] | None:
        """Return the numbers of many ticks by metric, device after device; None where one cannot be believed."""


# One tick of several devices, and what understands the bytes of it. A plain tuple, as one is made each tick.
Joint = tuple[tuple[DeviceInfo, ...], JointConversion, bytes]


class Gate:
    """Calls that are under way into a driver, which is let go of when none is. All under the lock.

    `n_changes` counts what rounds are made anew for: another offer, another handle, other answers.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.under_way = 0
        self.is_closing = False  # no call may begin
        self.n_changes = 0

    def note_left(self) -> None:
        """Take note that a call is over while the driver waits to be let go of. Called with the lock."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PowerRound:
    """`rooms` are where the driver writes its answers; they count where their `statuses` are the `usual` ones."""

    gate: Gate
    n_changes: int  # of the gate, when it was made
    turns: Sequence[Turn]
    rooms: Sequence[bytearray]
    statuses: Callable[[bytes], tuple[Any, ...]]
    usual: tuple[Any, ...]
    devices: tuple[DeviceInfo, ...]
    conversion: JointConversion


class Rounds(Protocol):
    """What a backend offers: `power` is the last round that was made."""

    power: PowerRound | None

    def make_power(self) -> PowerRound | None:
        """Return the round as it is now; None where a device is to be read by itself, as something is due or wrong."""
