"""What a backend is: it finds the devices of one kind, and each of them can be read alone. Called by the sampler.

A source never raises out of `read` and never invents a value: each metric is a finite number in base units or an
AbsentReason, and a metric that the kind does not know at all is simply not in the map.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceProcess, Topology

Reading = float | int | AbsentReason


class BackendUnavailable(Exception):
    """This machine has nothing for the backend (no driver library, no device); the text says what is missing."""


class Source(Protocol):
    """One device. A call that does not return holds up this source alone: the sampler goes on without it."""

    @property
    def device(self) -> DeviceInfo:
        """What the device is; may change between two reads (its index after a reboot, say), its uuid never."""

    def read(self) -> Mapping[str, Reading]:
        """Return the device's readings now by catalogue name; a lost device's are all absent with that reason.

        The map is the caller's: it is not changed afterwards.
        """

    def processes(self) -> Sequence[DeviceProcess] | None:
        """Return who uses the device now, None where that cannot be told. Asked every few seconds."""


class PowerSource(Source, Protocol):
    """A source that can tell its power alone, for ticks between the full ones; others are not read then."""

    def read_power(self) -> Mapping[str, Reading]:
        """Return power now, where the device has it, by catalogue name; a few microseconds, no more."""


class Backend(Protocol):
    """Lives on the sampler's thread. `open` may be called again after BackendUnavailable or `close`.

    One that has `is_static` true keeps its sources from `open` on and reports no events: it is not asked for either again.
    One that has a method `has_news` is asked for both only where that returns true; it makes no driver call.
    While one of its sources hangs, the others are read on another thread, one at a time all the same.
    """

    name: str
    releasable: bool  # whether it holds a driver that people may want it to let go of

    def open(self) -> None:
        """Load the driver and find the devices. Raises BackendUnavailable."""

    def sources(self) -> Sequence[Source]:
        """Return the devices known now, asked each tick: finding new ones now and then is the backend's own matter.

        A tuple that is the same object as the last time says that none of their devices has changed either.
        """

    def software(self) -> Mapping[str, str]:
        """Return versions worth keeping with the samples, such as {"driver": "580.105.08", "cuda": "13.0"}."""

    def topology(self) -> Topology | None:
        """Return how the devices are joined, None where that cannot be told. Cheap: found at `open`."""

    def take_events(self) -> list[DeviceEvent]:
        """Return what the driver reported since the last call, oldest first. Does not wait."""

    def close(self) -> None:
        """Let go of the driver, so that a device may be reset."""
