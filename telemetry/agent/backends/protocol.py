"""What a backend is: it finds the devices of one kind and reads them once a tick. Called by the sampler.

A backend never raises out of `read` for a device's sake and never invents a value: each metric is a finite number in base
units or an AbsentReason, and a metric that the kind does not know at all is simply not in the map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from telemetry.catalog import AbsentReason
from telemetry.wire import DeviceInfo

Reading = float | int | AbsentReason


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One device at one tick: readings by catalogue name, in base units."""

    device: DeviceInfo
    readings: Mapping[str, Reading]


class BackendUnavailable(Exception):
    """This machine has nothing for the backend (no driver library, no device); the text says what is missing."""


class Backend(Protocol):
    """Lives on the sampler's thread. `open` may be called again after BackendUnavailable or `close`."""

    name: str

    def open(self) -> None:
        """Load the driver and find the devices. Raises BackendUnavailable."""

    def read(self) -> list[DeviceReading]:
        """Return every known device's readings now; a lost device stays, with its readings absent."""

    def software(self) -> dict[str, str]:
        """Return versions worth keeping with the samples, such as {"driver": "580.105.08", "cuda": "13.0"}."""

    def close(self) -> None:
        """Let go of the driver."""
