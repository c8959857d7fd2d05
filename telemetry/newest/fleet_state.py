"""What is known of a fleet at a moment: of its devices, of its hosts, and of all of them together. Made by queries.py.

Values are in base units. What is absent is left out of `values` and stands in `absent` with its reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.models import ACCELERATORS, Device, DeviceKind, Host, Origin
from telemetry.catalog import AbsentReason
from telemetry.health import Health, is_read
from telemetry.health.judgement import HEAT
from telemetry.message.wire import DeviceProcess


@dataclass(frozen=True, slots=True)
class Users:
    """The processes that used a device at `at`, greatest memory first."""

    at: datetime
    processes: list[DeviceProcess]


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device with its newest readings; `values` is empty where its host is silent or the device is lost.

    `at` is when the agent last spoke of it, `read_at` when it last gave any value. `advice` is what to do about `note`;
    `users` is None where it is not known who uses the device now.
    """

    device: Device
    health: Health
    note: str
    at: datetime | None
    read_at: datetime | None
    values: dict[str, float]
    absent: dict[str, str]
    advice: str = ""
    users: Users | None = None

    @property
    def is_part(self) -> bool:
        return is_part(self.device)

    @property
    def is_slowed_by_heat(self) -> bool:
        return bool(int(self.values.get("clock_event_reasons", 0)) & HEAT)

    def why_absent(self, metric: str) -> str:
        """Return the sentence that belongs to the "—" of a metric."""
        if self.health is Health.SILENT:
            return self.note
        return absence(self.absent.get(metric))


@dataclass(frozen=True, slots=True)
class HostState:
    host: Host
    health: Health
    note: str
    devices: list[DeviceState]

    @property
    def counted(self) -> list[DeviceState]:
        return counted(self.devices)

    @property
    def wholes(self) -> list[DeviceState]:
        """The devices apart from parts of devices, and from the host as a whole."""
        return [d for d in self.devices if not d.is_part and d.device.kind != DeviceKind.NODE]

    @property
    def parts(self) -> list[DeviceState]:
        """The MIG instances, in the order of the devices that they are parts of."""
        return [part for whole in self.wholes for part in self.parts_of(whole.device)]

    @property
    def node(self) -> DeviceState | None:
        """The host as a whole: its power at the wall, its memory, its agent."""
        return next((d for d in self.devices if d.device.kind == DeviceKind.NODE), None)

    def of(self, device: Device) -> DeviceState:
        """Return the state of one of its devices; a MIG instance that is gone is silent, and says why."""
        gone = DeviceState(device, Health.SILENT, "its GPU is not divided like this any more", None, None, {}, {})
        return next((d for d in self.devices if d.device.pk == device.pk), gone)

    def parts_of(self, device: Device) -> list[DeviceState]:
        return [d for d in self.devices if d.device.parent_id == device.pk]

    def parts_of_same(self, device: Device) -> list[DeviceState]:
        """Return the parts of the device that this one is a part of."""
        return [d for d in self.devices if d.is_part and d.device.parent_id == device.parent_id]

    def whole_of(self, device: Device) -> DeviceState | None:
        """Return the device that this one is a part of."""
        return next((d for d in self.devices if d.device.pk == device.parent_id), None)

    @property
    def agent(self) -> dict[str, float]:
        """The agent's own cost, which stands among the readings of the host as a whole."""
        return {
            name: value for d in self.devices if d.device.kind == DeviceKind.NODE
            for name, value in d.values.items() if name.startswith("agent_")
        }  # fmt: skip

    @property
    def power_watts(self) -> float | None:
        """Sum over the counted devices; None where one of them gives no power."""
        return total(d.values.get("power_draw_watts") for d in self.counted)

    @property
    def known_power_watts(self) -> list[float]:
        """The power of each counted device that gives it: what is shown with its number where the sum is not whole."""
        return [d.values["power_draw_watts"] for d in self.counted if "power_draw_watts" in d.values]


@dataclass(frozen=True, slots=True)
class FleetState:
    """Hosts at a moment: of one cluster, of all where it is "", or else some that were chosen."""

    now: datetime
    hosts: list[HostState]
    cluster: str | None = None

    @property
    def counted(self) -> list[DeviceState]:
        return counted([d for host in self.hosts for d in host.devices])

    @property
    def reporting(self) -> list[DeviceState]:
        """Those that give readings: neither silent nor lost, and with a driver that answers."""
        return [d for d in self.counted if is_read(d.values)]

    @property
    def noun(self) -> str:
        """What the counted devices are called."""
        return noun(self.counted)

    @property
    def origins(self) -> set[str]:
        """Origins other than real, for the banner."""
        return {state.host.origin for state in self.hosts} - {Origin.REAL}

    def mean(self, metric: str) -> float | None:
        values = [d.values[metric] for d in self.reporting if metric in d.values]
        return sum(values) / len(values) if values else None

    @property
    def powered(self) -> list[DeviceState]:
        """What power is summed of, as energy is: each host's accelerators, else its CPUs; where none has any, what is counted."""
        own = [d for host in self.hosts for d in host.counted if d.device.kind != DeviceKind.NODE]
        return own or self.counted

    @property
    def known_power_watts(self) -> list[float]:
        """The power of each powered device that gives it."""
        return [d.values["power_draw_watts"] for d in self.powered if "power_draw_watts" in d.values]

    def count(self, health: Health) -> int:
        return sum(d.health is health for d in self.counted)


def counted(devices: Sequence[DeviceState]) -> list[DeviceState]:
    """Return the devices that figures speak of: whole accelerators where there are any, else CPUs, else nodes.

    A part of a device (a MIG instance) is not counted beside the whole, nor a node's meter beside its devices.
    """
    for kinds in (ACCELERATORS, (DeviceKind.CPU,)):
        found = [d for d in devices if d.device.kind in kinds and not is_part(d.device)]
        if found:
            return found
    return [d for d in devices if d.device.kind == DeviceKind.NODE]


def absence(reason: str | None) -> str:
    """Return the sentence that says why a reading is absent."""
    return AbsentReason(reason).sentence if reason else "not offered by this kind of device"


def is_part(device: Device) -> bool:
    """Tell whether a device is a part of another; its profile says so where the whole is not known."""
    return device.parent_id is not None or bool(device.profile)


def noun(devices: Sequence[DeviceState]) -> str:
    """Return what these devices are called: GPUs of any vendor, TPUs, CPUs, nodes; accelerators where there are several kinds.

    Where there is none, devices.
    """
    words = {d.device.get_kind_display() for d in devices} or {"device"}
    return f"{words.pop()}s" if len(words) == 1 else "accelerators"


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where nothing is summed or one part is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return sum(value for value in known if value is not None)
