"""A board or a MIG instance as the sampler reads it: its handle while it has one, and its readings in base units.

What board.py and mig.py have in common; one is made per device and session. What it reads into is its own, so that one
device's read may hang on a thread while the others are read on another.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from telemetry.agent.backends.nvml.errors import DeviceGoneError, DriverAwayError
from telemetry.agent.backends.nvml.gpm import GPM_METRICS, GpmReader, open_gpm
from telemetry.agent.backends.nvml.identity import Listed, address_of, find
from telemetry.agent.backends.nvml.processes import SmShares, read_processes
from telemetry.agent.backends.nvml.session import Session
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceProcess

USED_RATIO = "memory_used_ratio"

_AGAIN_SECONDS = 60.0  # after a failure that is no refusal
_REFUSALS = frozenset({AbsentReason.NOT_SUPPORTED, AbsentReason.NO_PERMISSION})


class NvmlSource(ABC):
    """What boards and instances have in common. `metrics` is all that this kind of device may have."""

    metrics: tuple[str, ...]

    def __init__(self, listed: Listed, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self.device: DeviceInfo = listed.info
        self.n_probes = 0
        self.gone: AbsentReason | None = None  # why nothing of the device counted when it was last read
        self._session = session
        self._clock = clock
        self._handle = listed.handle
        self._is_probed = False
        # What a tick begins with: all metrics, so that the map does not grow while it is filled. What is not asked each
        # tick stands in it until it is asked again.
        self._known: dict[str, Reading] = {}
        self._shares = SmShares()
        self._gpm: GpmReader | None = None
        self._gpm_of: tuple[Any, int | None] = (None, None)
        self._gpm_again_at = math.inf
        session.hold(self._free_gpm)

    @property
    def handle(self) -> Any:
        return self._handle

    def meet(self, listed: Listed) -> None:
        """Take over how the device is listed now; where its handle changed, find out again what it offers."""
        self.device = listed.info
        if address_of(listed.handle) != address_of(self._handle):
            self._handle, self._is_probed = listed.handle, False
            self._session.n_changes += 1

    def retire(self) -> None:
        """Give back what the driver lent for this device, which is not listed any more."""
        self._session.drop(self._free_gpm)
        self._free_gpm()

    def forget_handle(self) -> None:
        """Ask for the device by its UUID at the next read: a stale handle can crash in the driver."""
        self._handle, self._is_probed = None, False
        self._session.n_changes += 1

    def read(self) -> Mapping[str, Reading]:
        return self._guarded(self._read, self.metrics)

    def heard(self) -> Mapping[str, Reading]:
        """Return what is known without a call, and so outlives the device and the driver."""
        return {}

    def processes(self) -> list[DeviceProcess] | None:
        if self.gone is not None or self._handle is None or not self._session.enter():
            return None
        try:
            return read_processes(self._handle, self._shares)
        finally:
            self._session.leave()

    def _guarded(self, read: Callable[[], Mapping[str, Reading]], metrics: Iterable[str]) -> Mapping[str, Reading]:
        """Return what `read` gives, within the session; where nothing of the device counts, all absent for that reason."""
        if not self._session.enter():
            return self._absent(metrics, AbsentReason.RELEASED)
        try:
            return read()
        except DeviceGoneError as gone:
            self._session.is_changed = self._session.is_changed or self.gone is None
            self.gone = gone.reason
            self.forget_handle()
            return self._absent(metrics, gone.reason)
        except DriverAwayError:
            self._session.is_broken = True
            return self._absent(metrics, AbsentReason.DRIVER_AWAY)
        finally:
            self._session.leave()

    def _absent(self, metrics: Iterable[str], reason: AbsentReason) -> dict[str, Reading]:
        """Return the metrics as absent, but for what is known without a call."""
        readings: dict[str, Reading] = dict.fromkeys(metrics, reason)
        readings.update({name: value for name, value in self.heard().items() if name in readings})
        return readings

    def _read(self) -> Mapping[str, Reading]:
        readings = self._readings(self._clock())
        self.gone = None
        return readings

    def _readings(self, now: float) -> Mapping[str, Reading]:
        if self._handle is None:
            self._handle = find(self.device.uuid)
        if not self._is_probed:
            known = self._probe()
            self._known = {**self._all(AbsentReason.NOT_SUPPORTED), **known}
            self._is_probed = True
            self.n_probes += 1
            self._session.n_changes += 1
        elif now >= self._gpm_again_at:
            self._known.update(self._take_gpm(*self._gpm_of))
        is_well = self._keep(now)
        readings, is_filled_well = self._fill(now)
        if not (is_filled_well and is_well):
            self._session.is_changed = True
            self.forget_handle()
        return readings

    def _take_gpm(self, board: Any, instance_id: int | None = None) -> dict[str, Reading]:
        """Begin the GPM metrics anew; return why they are absent where the device has none."""
        self._free_gpm()
        self._gpm_of, self._gpm_again_at = (board, instance_id), math.inf
        gpm = open_gpm(board, instance_id)
        if isinstance(gpm, AbsentReason):
            if gpm not in _REFUSALS:
                self._gpm_again_at = self._clock() + _AGAIN_SECONDS
            return dict.fromkeys(GPM_METRICS, gpm)
        self._gpm = gpm
        return {}

    def _free_gpm(self) -> None:
        gpm, self._gpm = self._gpm, None
        if gpm is not None:
            gpm.free()

    def _all(self, reason: AbsentReason) -> dict[str, Reading]:
        return dict.fromkeys(self.metrics, reason)

    @abstractmethod
    def _probe(self) -> Mapping[str, Reading]:
        """Find once what the device offers, so that a call that it refuses is not repeated each tick.

        Return what is known until the next probing, where it is not that a metric is not supported.
        """

    def _keep(self, now: float) -> bool:
        """Ask for what is due of that which is kept, and put it into what a tick begins with. Return as `_fill` does."""
        return True

    @abstractmethod
    def _fill(self, now: float) -> tuple[Mapping[str, Reading], bool]:
        """Ask the driver. Return its answers with what is known, and False where the device answers strangely."""


def derive_used_ratio(readings: dict[str, Reading]) -> None:
    """Put memory in use as a share of what can be allocated; where a part of it is absent, its reason."""
    total, used = readings["memory_total_bytes"], readings["memory_used_bytes"]
    reserved = readings["memory_reserved_bytes"]
    if isinstance(total, AbsentReason):
        readings[USED_RATIO] = total
    elif isinstance(used, AbsentReason):
        readings[USED_RATIO] = used
    elif isinstance(reserved, AbsentReason):
        # Of drivers before 510, whose `used` includes what they reserve.
        readings[USED_RATIO] = used / total if 0 <= used <= total > 0 else AbsentReason.UNKNOWN
    else:
        room = total - reserved
        readings[USED_RATIO] = used / room if 0 <= used <= room > 0 else AbsentReason.UNKNOWN
