"""Reads every device of every backend for one tick, in the caller's thread: the sampler's, or a simulation's own.

Without threads: `Collector(backends, period, clock).sample(number, boot_seconds, wall_offset_seconds)` returns a Tick.
With threads the sampler gives each of its own a Watch, so that a call that hangs is held and the others go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from telemetry.agent.backends.allocation import Allocations
from telemetry.agent.backends.protocol import Backend, Source
from telemetry.agent.lanes import Lane, LaneState
from telemetry.agent.ticks import Tick, boot_seconds
from telemetry.agent.watch import WHOLE, Watch
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, Topology

CLOSER_SECONDS = 10.0  # how often processes, software and topology are looked at
SLOW_SECONDS = 0.05  # a source whose read takes longer is read after all others


@dataclass(frozen=True, slots=True)
class Driver:
    """A backend that can be let go of. `held` are its calls that do not return: device uuids, or WHOLE."""

    name: str
    is_open: bool
    held: tuple[str, ...]
    devices: tuple[DeviceInfo, ...]


class Collector:
    """`period` is the seconds between two full ticks, `power_period` between two of any kind.

    Readings that come later than half of it belong to no tick.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        period: float,
        clock: Callable[[], float] = boot_seconds,
        *,
        power_period: float | None = None,
        allocations: Allocations | None = None,
    ) -> None:
        self.lanes = [Lane(backend, clock) for backend in backends]
        self._period = period
        self._power_period = power_period or period
        self._allocations = allocations  # None where the backends tell that themselves: a simulation's
        self._clock = clock
        self._closer_every = max(1, round(CLOSER_SECONDS / period))
        self._n_full = 0
        self.powered: Lane | None = None  # all devices that tell their power alone, where a round may ask them
        self._slow: dict[str, int] = {}  # uuid → the full tick in which it was last read in time

    def sample(self, number: int, boot_seconds: float, wall_offset_seconds: float, *, is_full: bool = True) -> Tick:
        """Return what is read now, for the tick that was due at `boot_seconds`."""
        tick = Tick(number, boot_seconds, wall_offset_seconds, is_full)
        self.fill(tick, Watch(self._clock))
        return tick

    def fill(self, tick: Tick, watch: Watch) -> None:
        """Put all readings into the tick. Raises Relieved, and then the tick holds what was read until then."""
        if not tick.is_full:
            self._fill_power(tick, watch)
            return
        is_closer = self._n_full % self._closer_every == 0
        self._n_full += 1
        self._fill_readings(tick, watch)
        if self._power_period < self._period:
            powered = [] if self._slow else [lane for lane in self.lanes if lane.power_sources]
            self.powered = powered[0] if len(powered) == 1 else None
        if is_closer:
            self._look_closer(tick, watch)
        if self._allocations is not None:
            self._allocations.fill(tick)

    def settle(self, watch: Watch | None = None) -> None:
        """Let go of drivers and take them up, as it is wanted. Raises Relieved."""
        for lane in self.lanes:
            lane.settle(watch or Watch(self._clock))

    def release(self, known: Mapping[str, Sequence[DeviceInfo]]) -> None:
        """Want the releasable backends closed. `known` names devices by backend, where one was not opened yet."""
        for lane in self._releasable():
            lane.is_released = True
            if not lane.devices:
                lane.devices = {device.uuid: device for device in known.get(lane.backend.name, ())}

    def resume(self) -> None:
        """Want the releasable backends open, at once."""
        for lane in self._releasable():
            lane.is_released = False
            lane.try_again()

    def drivers(self) -> list[Driver]:
        """Return how it stands with the releasable backends."""
        return [
            Driver(
                lane.backend.name,
                is_open=lane.state is LaneState.OPEN,
                held=tuple(lane.held.calls()),
                devices=tuple(lane.devices.values()),
            )
            for lane in self._releasable()
        ]

    def close(self) -> None:
        """Let go of everything, at the end."""
        for lane in self.lanes:
            lane.end(Watch(self._clock))

    def devices(self) -> list[DeviceInfo]:
        return [device for lane in self.lanes for device in list(lane.devices.values())]

    def software(self) -> dict[str, str]:
        return {name: version for lane in self.lanes for name, version in lane.software.items()}

    def topology(self) -> Topology | None:
        """Return how the devices are joined, all backends together."""
        found = [lane.topology for lane in self.lanes if lane.topology is not None]
        if len(found) <= 1:
            return found[0] if found else None
        links = [link for topology in found for link in topology.links]
        return Topology(links, {uuid: node for topology in found for uuid, node in topology.numa.items()})

    def mark_held(self, tick: Tick) -> None:
        """Say of the devices in a tick that was broken off what holds them."""
        for lane in self.lanes:
            for uuid in lane.held.calls():
                reason = lane.why_absent() if uuid == WHOLE else AbsentReason.TIMEOUT
                for held in lane.devices if uuid == WHOLE else (uuid,):
                    if held in lane.devices and held not in tick.readings:
                        tick.put(lane.devices[held], lane.absent(held, reason))

    def _releasable(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.backend.releasable]

    def _fill_readings(self, tick: Tick, watch: Watch) -> None:
        """Lane by lane; sources known to be slow come last of all, the one that waited longest first."""
        slow: list[tuple[int, Lane, Source]] = []
        for lane in self.lanes:
            if not lane.is_calm and lane.is_idle:
                continue
            sources = self._readable(tick, watch, lane)
            now = self._clock()
            for source in sources:
                if self._slow and source.device.uuid in self._slow:
                    slow.append((self._slow[source.device.uuid], lane, source))
                else:
                    now = self._read(tick, watch, lane, source, now)
        for _, lane, source in sorted(slow, key=lambda item: item[0]):
            self._read(tick, watch, lane, source, self._clock())

    def _readable(self, tick: Tick, watch: Watch, lane: Lane) -> Sequence[Source]:
        """Return the sources that may be called; put the other devices into the tick, with the reason."""
        is_calm = lane.is_calm
        if is_calm and not (lane.has_news() or lane.events):
            return lane.sources
        if not is_calm:
            lane.settle(watch)
        if is_calm or lane.is_readable:
            lane.look_around(watch)
        if not (lane.is_calm or lane.is_readable):
            reason = lane.why_absent()
            for uuid, device in lane.devices.items():
                tick.put(device, lane.absent(uuid, AbsentReason.TIMEOUT if uuid in lane.held else reason))
            return ()
        if lane.events:
            tick.events += lane.take_events()
        if not lane.held:
            return lane.sources
        for uuid in lane.held.calls():
            if uuid in lane.devices:
                tick.put(lane.devices[uuid], lane.absent(uuid, AbsentReason.TIMEOUT))
        return [source for source in lane.sources if source.device.uuid not in lane.held]

    def _read(self, tick: Tick, watch: Watch, lane: Lane, source: Source, began: float) -> float:
        """Put one device into the tick, and return when that was done."""
        latest = tick.boot_seconds + self._period / 2
        if began > latest:
            # What was not read in time would stand at a wrong one: the tick says that the driver was too slow for it.
            tick.put(source.device, lane.absent(source.device.uuid, AbsentReason.TIMEOUT))
            return began
        readings = lane.read(watch, source, began)
        ended, device = self._clock(), source.device
        if ended > latest:
            self._slow.setdefault(device.uuid, self._n_full - 1)
            readings = lane.absent(device.uuid, AbsentReason.TIMEOUT)
        elif ended - began > SLOW_SECONDS:
            self._slow[device.uuid] = self._n_full
        elif self._slow:
            self._slow.pop(device.uuid, None)
        tick.devices[device.uuid], tick.readings[device.uuid] = device, readings
        return ended

    def _fill_power(self, tick: Tick, watch: Watch) -> None:
        latest = tick.boot_seconds + self._power_period / 2
        for lane in self.lanes:
            if not (lane.power_sources and (lane.is_calm or lane.is_readable)):
                continue
            now, avoided = self._clock(), lane.held or self._slow
            for source in lane.power_sources:
                device = source.device
                if avoided and (device.uuid in lane.held or device.uuid in self._slow):
                    continue
                readings = lane.read_power(watch, source, now)
                now = self._clock()
                if readings and now <= latest:
                    tick.devices[device.uuid], tick.readings[device.uuid] = device, readings

    def _look_closer(self, tick: Tick, watch: Watch) -> None:
        for lane in self.lanes:
            if lane.is_readable:
                lane.look_closer(watch)
            for source in lane.sources if lane.is_readable else ():
                if source.device.uuid in lane.held or source.device.uuid in self._slow:
                    continue
                found = lane.processes(watch, source)
                if found is not None:
                    tick.processes[source.device.uuid] = found
