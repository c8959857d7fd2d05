"""One simulated device, as the sampler reads it. Made by the simulated machine. No Django."""

from collections.abc import Callable, Mapping

from telemetry.agent.backends.protocol import Reading
from telemetry.message.wire import DeviceInfo, DeviceProcess


class Source:
    def __init__(
        self,
        device: DeviceInfo,
        read: Callable[[], Mapping[str, Reading]],
        processes: Callable[[], list[DeviceProcess] | None] = lambda: None,
    ) -> None:
        self.device = device
        self.read, self.processes = read, processes
