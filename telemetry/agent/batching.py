"""From ticks to batches, without a clock or a thread: the batcher's work, and a simulation's for its virtual hosts.

A wall clock that jumps begins a new segment: the ticks before and after it never share a batch. Nor do those before and
after a long gap, such as a suspend: a message that spans too much is refused.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from telemetry.agent.backends.deferred import Deferred, alike, together
from telemetry.agent.backends.identity import stable_uuid
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.names import Names
from telemetry.agent.ticks import Tick
from telemetry.agent.weaving import spread, woven
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.message.block import Block, Column, Part, part_of
from telemetry.message.wire import MAX_EVENTS, MAX_SPAN_MS, Batch, Cargo, DeviceEvent, DeviceInfo, Topology

logger = logging.getLogger(__name__)

JUMP_SECONDS = 0.25  # an offset that changes by more within one tick is a step of the wall clock, not its slewing
GAP_SECONDS = 300.0  # begins a new batch; the stretch of a stored one is then one in which the host was there
TELL_SECONDS = 300.0  # software and topology are told again: the message that told them may not have come
_LIMITS = {name: 2**62 * metric.resolution for name, metric in BY_NAME.items()}  # what the wire can carry
# What is looked at together stays below the lowest limit of all; what has a lower one yet is looked at by itself.
_LOWEST_LIMIT = 2.0**45  # the sums of memory and links stay below it
_NARROW = frozenset(name for name, limit in _LIMITS.items() if limit < _LOWEST_LIMIT)
_NUMBERS = frozenset((int, float))

_Row = tuple[str, Sequence[Any]]
_NOTHING: Mapping[str, Reading] = {}


def machine_digest(machine_id: str) -> str:
    """Return 32 hex digits that tell machines apart; machine-id(5) asks that the id itself does not leave the machine."""
    return stable_uuid(machine_id, "machine", "").replace("-", "")


class BatchMaker:
    """Makes one agent's batches.

    `machine` is `machine_digest` of the machine's id; `names` gives each batch its own, and keeps the clock's segment over
    restarts: another offset than that of the batch before begins a new one, so that a reboot does too. `sample_seconds`
    lie between two full ticks. `cargo` gives what goes along with a batch.
    """

    def __init__(
        self,
        host: str,
        machine: str,
        names: Names,
        sample_seconds: float,
        cargo: Callable[[], Cargo] = dict,
    ) -> None:
        self._host, self._machine, self._names, self._sample_seconds = host, machine, names, sample_seconds
        self._cargo = cargo
        self.n_made = 0
        self._software: Mapping[str, str] | None = None
        self._topology: Topology | None = None
        self._told = (-1, 0.0)  # the segment and the boot seconds in which both were last told
        self._events: list[DeviceEvent] = []  # of devices that no tick has shown yet

    def make(
        self, ticks: Sequence[Tick], software: Mapping[str, str], topology: Topology | None, now: Callable[[], float]
    ) -> Iterator[Batch]:
        """Yield the batches of these ticks. `now` gives UTC seconds.

        Software and topology are told when they changed, in each new segment, and every TELL_SECONDS.
        """
        for part in self._segments(ticks):
            self.n_made += 1
            yield self._batch(part, software, topology, int(now() * 1000))

    def _segments(self, ticks: Sequence[Tick]) -> Iterator[list[Tick]]:
        part: list[Tick] = []
        names = self._names
        for tick in sorted(ticks, key=lambda tick: tick.boot_seconds):  # a message whose times fall is refused whole
            if names.offset is not None and abs(tick.wall_offset_seconds - names.offset) > JUMP_SECONDS:
                if part:
                    yield part
                part = []
                names.segment += 1
                if self.n_made:  # else it is the machine's next start
                    jump = tick.wall_offset_seconds - names.offset
                    logger.warning("the wall clock jumped by %.1f s: a new segment begins", jump)
            elif part and self._is_apart(part, tick):
                yield part
                part = []
            names.offset = tick.wall_offset_seconds
            part.append(tick)
        if part:
            yield part

    def _is_apart(self, part: Sequence[Tick], tick: Tick) -> bool:
        """Tell whether the tick is too far from the part's last, or too far from its first for one message."""
        gap = tick.boot_seconds - part[-1].boot_seconds
        span_ms = (tick.boot_seconds - part[0].boot_seconds) * 1000
        return gap > max(GAP_SECONDS, 2 * self._sample_seconds) or span_ms >= MAX_SPAN_MS

    def _batch(self, ticks: list[Tick], software: Mapping[str, str], topology: Topology | None, sent_ms: int) -> Batch:
        offset = ticks[0].wall_offset_seconds  # one offset a batch: its times ascend as the ticks do
        devices = _devices(ticks)
        columns, absent = _columns(ticks, list(devices))
        self._forget_told(ticks[0].boot_seconds)
        epoch, sequence = self._names.claim()
        batch = Batch(
            host=self._host,
            epoch=epoch,
            sequence=sequence,
            segment=self._names.segment,
            sent_ms=sent_ms,
            times_ms=[round((tick.boot_seconds + offset) * 1000) for tick in ticks],
            sample_seconds=self._sample_seconds,
            devices=list(devices.values()),
            columns=columns,
            absent=absent,
            software=software if software != self._software else None,
            machine=self._machine,
            events=self._take_events(ticks, devices),
            processes={uuid: found for tick in ticks for uuid, found in tick.processes.items() if uuid in devices},
            topology=topology if topology != self._topology else None,
            cargo=self._cargo(),
        )
        self._software, self._topology = software, topology
        return batch

    def _forget_told(self, boot_seconds: float) -> None:
        segment, at = self._told
        if segment != self._names.segment or boot_seconds - at >= TELL_SECONDS:
            self._software = self._topology = None
            self._told = (self._names.segment, boot_seconds)

    def _take_events(self, ticks: Sequence[Tick], devices: Mapping[str, DeviceInfo]) -> list[DeviceEvent]:
        """Return the events of this batch's devices; those of others wait, as a message names no device that it lacks."""
        events = self._events + [event for tick in ticks for event in tick.events]
        self._events = [event for event in events if event.uuid not in devices][-MAX_EVENTS:]
        return [event for event in events if event.uuid in devices][-MAX_EVENTS:]


def _devices(ticks: Sequence[Tick]) -> dict[str, DeviceInfo]:
    found: dict[str, DeviceInfo] = {}
    joint: Sequence[DeviceInfo] = ()
    for tick in ticks:
        found.update(tick.devices)
        if tick.joint is not None and tick.joint[0] is not joint:
            joint = tick.joint[0]
            found.update({device.uuid: device for device in joint})
    return found


def _columns(
    ticks: Sequence[Tick], uuids: Sequence[str]
) -> tuple[Mapping[str, Sequence[Column]], dict[str, dict[str, AbsentReason]]]:
    """Return the columns by metric and device, and why the last full tick lacks what it lacks."""
    full = [tick for tick in ticks if tick.is_full]
    columns, absent = _read(full, uuids)
    if len(full) == len(ticks):
        return columns, absent
    between, _ = _read([tick for tick in ticks if not tick.is_full], uuids)
    of_full = tuple([place for place, tick in enumerate(ticks) if tick.is_full])
    of_between = tuple([place for place, tick in enumerate(ticks) if not tick.is_full])
    whole = spread(columns, of_full, len(ticks))
    for metric, block in spread(between, of_between, len(ticks)).items():
        whole[metric] = woven(whole[metric], block) if metric in whole else block
    return whole, absent


def _read(ticks: Sequence[Tick], uuids: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, AbsentReason]]]:
    """Return what these ticks have, of one kind all of them, and why the last has not."""
    found = _Found(len(uuids), len(ticks))
    if found.put_joint(ticks, uuids):
        return found.columns, {}
    all_maps = [[tick.readings.get(uuid, _NOTHING) for tick in ticks] for uuid in uuids]
    groups: dict[tuple[int, tuple[str, ...]], dict[int, list[Deferred]]] = {}
    plain = []
    for place, maps in enumerate(all_maps):
        deferred = alike(maps)
        if deferred is None:
            plain.append(place)
        else:
            groups.setdefault((id(deferred[0].conversion), deferred[0].kept.names), {})[place] = deferred
    for group in groups.values():
        if not found.put_deferred(group):
            plain += group
    for place in plain:
        found.put_maps(place, all_maps[place])
    return found.columns, {uuids[place]: reasons for place, reasons in sorted(found.absent.items())}


class _Found:
    """Columns by metric and device's place, and reasons by place, as they are filled in: those of deferred ticks first."""

    def __init__(self, n_devices: int, n_ticks: int) -> None:
        self.columns: dict[str, Any] = {}  # a Block where deferred ticks have the metric, else a list of columns
        self.absent: dict[int, dict[str, AbsentReason]] = {}
        self._n_devices, self._n_ticks = n_devices, n_ticks
        self._nothing: list[Column] = [(None,) * n_ticks] * n_devices

    def put_joint(self, ticks: Sequence[Tick], uuids: Sequence[str]) -> bool:
        """Put in what rounds alone brought, of the same devices in each tick.

        Return False, and put nothing, where that is not all; what rounds brought stands among the readings then.
        """
        joints = [tick.joint for tick in ticks if tick.joint is not None and not tick.readings]
        devices, conversion, _ = joints[0] if joints else ((), None, None)
        places = tuple([uuids.index(device.uuid) for device in devices])
        columns = None
        is_one = all(joint[0] == devices and joint[1] is conversion for joint in joints)
        if conversion and is_one and len(joints) == len(ticks) and [*places] == sorted(places):
            columns = conversion.columns([raw for _, _, raw in joints])
        if conversion is None or columns is None:
            for tick in ticks:
                tick.take_apart()
            return False
        for metric, numbers, divisor in zip(conversion.metrics, columns, conversion.divisors, strict=True):
            self._put(metric, Part(places, None, numbers, divisor))
        return True

    def put_deferred(self, group: Mapping[int, list[Deferred]]) -> bool:
        """Put devices with one conversion in, all of them at once. Return False, and put nothing, where one lacks a reading."""
        named = together([*group.values()])
        if named is None:
            return False
        places = tuple(group)
        for metric, numbers, divisor in named:
            self._put(metric, Part(places, None, numbers, divisor))
        for place, ticks in group.items():
            reasons = ticks[0].kept.reasons
            if reasons:
                self.absent[place] = reasons
        return True

    def put_maps(self, place: int, maps: Sequence[Mapping[str, Reading]]) -> None:
        """Put one device in, whatever its ticks are."""
        rows, reasons = _parted(_rows(maps))
        is_sound = _is_sound(rows)
        for metric, raw in rows:
            column, reason = (raw, None) if is_sound and metric not in _NARROW else _checked(raw, _LIMITS[metric])
            if column is not None:
                self._put_column(metric, place, column)
            if reason is not None:
                reasons[metric] = reason
        if reasons:
            self.absent[place] = reasons

    def _put(self, metric: str, part: Part) -> None:
        block = self.columns.get(metric)
        if block is None:
            self.columns[metric] = Block(self._n_devices, self._n_ticks, [part])
        else:
            block.parts.append(part)

    def _put_column(self, metric: str, place: int, column: Column) -> None:
        block = self.columns.get(metric)
        if block is None:
            block = self.columns[metric] = self._nothing.copy()
        if type(block) is Block:
            block.parts.append(part_of(place, column))
        else:
            block[place] = column


def _rows(maps: Sequence[Mapping[str, Reading]]) -> list[_Row]:
    """Return each metric of a device with what was read of it, None where it was not read."""
    names = list(maps[0]) if maps else []
    if all(list(readings) == names for readings in maps):  # the usual case: the same calls in the same order
        return list(zip(names, zip(*(readings.values() for readings in maps), strict=True), strict=True))
    every = dict.fromkeys(name for readings in maps for name in readings)
    return [(name, [readings.get(name) for readings in maps]) for name in every]


def _parted(rows: list[_Row]) -> tuple[list[_Row], dict[str, AbsentReason]]:
    """Return what may hold numbers, and apart what is absent throughout; what the catalogue does not know is left out."""
    numbers, reasons = [], {}
    for row in rows:
        metric, raw = row
        if metric not in _LIMITS:
            continue
        if type(raw[0]) is AbsentReason and raw.count(raw[0]) == len(raw):
            reasons[metric] = raw[0]
        else:
            numbers.append(row)
    return numbers, reasons


def _is_sound(rows: list[_Row]) -> bool:
    """Whether all of a device's readings are finite numbers that the wire can carry: the usual case, in a few steps."""
    values = list(chain.from_iterable(raw for _, raw in rows))
    try:
        return _NUMBERS.issuperset(map(type, values)) and sum(map(abs, values)) < _LOWEST_LIMIT  # not NaN, not infinity
    except OverflowError:
        return False


def _checked(raw: Sequence[Any], limit: float) -> tuple[Column | None, AbsentReason | None]:
    """Return the finite numbers that the wire can carry, None if there is none, and why the last is missing.

    What is no number at all is as unknown as one that no device can mean.
    """
    column = [value if _is_number(value, limit) else None for value in raw]
    known = column if any(value is not None for value in column) else None
    last = raw[-1]
    if column[-1] is not None or last is None:
        return known, None
    return known, last if isinstance(last, AbsentReason) else AbsentReason.UNKNOWN


def _is_number(value: Any, limit: float) -> bool:
    return isinstance(value, (int, float)) and abs(value) < limit
