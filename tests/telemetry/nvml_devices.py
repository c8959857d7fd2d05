"""What the tests of the NVML backend share: reading the stub's devices by number, at a clock that the test moves."""

from collections.abc import Mapping

from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.protocol import Reading

POWER, POWER_CALL = "field:185", "nvmlDeviceGetPowerUsage"  # as it is asked, and where there is no such field
UTILIZATION = "nvmlDeviceGetUtilizationRates"
MEMORY = "nvmlDeviceGetMemoryInfo_v2"
GPU_IS_LOST = 15

ANSWERING_CALLS = [
    UTILIZATION,
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    MEMORY,
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetFanSpeed",
]
FIELDS = [f"field:{number}" for number in (3, 4, 74, 75, 82, 83, 138, 139, 142, 143, 144, 145, 185, 186, 230)]
GPM = [f"gpm:{number}" for number in (1, 2, 3, 5, 10, 11, 12, 13, 20, 21, 60, 61)]


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Rig:
    """A backend and its clock; each `tick` is a second later than the one before, and asks for everything anew."""

    def __init__(self, *, kept_seconds=0.0, **settings) -> None:
        self.clock = Clock()
        self.backend = NvmlBackend(self.clock, kept_seconds=kept_seconds, **settings)

    def tick(self, seconds: float = 1.0) -> dict[str, Mapping[str, Reading]]:
        """Read every device as the sampler does; return the readings by UUID."""
        self.clock.seconds += seconds
        return {source.device.uuid: source.read() for source in self.backend.sources()}

    def read(self, number: int, seconds: float = 1.0) -> Mapping[str, Reading]:
        """Return the readings of the stub's board with this number, after a tick of all."""
        return self.tick(seconds)[uuid_of(number)]

    def devices(self):
        return {source.device.uuid: source.device for source in self.backend.sources()}


def uuid_of(number: int) -> str:
    return f"GPU-5e9a00{number:02x}-5747-4a54-9bb1-{0x1000 + number:012x}"


def reasons_of(readings: Mapping[str, Reading]) -> set[Reading]:
    """Return what is read in place of values; the XIDs are heard, and known of a lost board as well."""
    return {reading for name, reading in readings.items() if not name.startswith("xid_")}


def instance_of(number: int, place: int) -> str:
    """Return the UUID of the MIG instance at a place, counted from 1."""
    return f"MIG-5e9a00{number:02x}-5747-4a54-9bb1-{0x2000 + place:012x}"
