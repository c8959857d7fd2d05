"""A tick: what was read at one point of the sampling grid. Made by the collector, turned into batches by batching.py."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from telemetry.agent.backends.deferred import Deferred
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rounds import Joint
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceProcess

# The time of the grid: it runs on through suspend and knows no steps of the wall clock. Not a function of Python's, since
# it is asked around each reading.
boot_seconds: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Tick:
    """Readings by device uuid. `wall_offset_seconds` plus `boot_seconds` is UTC, read beside the tick.

    A tick that is not `is_full` lies between two full ones and has the readings of power alone. A device that is not in
    `readings` was not read; `processes` has the devices whose users were looked at. `joint` is what a round brought, of
    devices that are not in `readings`.
    """

    number: int
    boot_seconds: float
    wall_offset_seconds: float
    is_full: bool = True
    devices: dict[str, DeviceInfo] = field(default_factory=dict)
    readings: dict[str, Mapping[str, Reading]] = field(default_factory=dict)
    processes: dict[str, Sequence[DeviceProcess]] = field(default_factory=dict)
    events: list[DeviceEvent] = field(default_factory=list)
    joint: Joint | None = None

    def put(self, device: DeviceInfo, readings: Mapping[str, Reading]) -> None:
        self.devices[device.uuid] = device
        self.readings[device.uuid] = readings

    def take_apart(self) -> None:
        """Have what a round brought among the `readings`."""
        if self.joint is None:
            return
        (devices, conversion, raw), self.joint = self.joint, None
        for device, readings in zip(devices, conversion.apart(raw), strict=True):
            self.put(device, readings)

    def add(self, uuid: str, name: str, reading: Reading) -> None:
        """Put one reading beside those of a device that was put already."""
        readings = self.readings[uuid]
        if type(readings) is Deferred:  # asking a map what it is an instance of takes longer than all else here
            readings.add(name, reading)
        else:
            self.readings[uuid] = {**readings, name: reading}
