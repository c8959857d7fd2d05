"""A whole board: all readers together. Made by roster.py, read by the sampler."""

from collections.abc import Callable, Mapping
from typing import Protocol

from telemetry.agent.backends.deferred import Deferred
from telemetry.agent.backends.nvml.asked import Asked
from telemetry.agent.backends.nvml.calls import CallBatch
from telemetry.agent.backends.nvml.device import USED_RATIO, NvmlSource, derive_used_ratio
from telemetry.agent.backends.nvml.fields import FieldBatch
from telemetry.agent.backends.nvml.gpm import GPM_METRICS
from telemetry.agent.backends.nvml.identity import Listed
from telemetry.agent.backends.nvml.licence import LICENSED, Licence
from telemetry.agent.backends.nvml.nvlink import ERROR_METRICS, RATE, NvlinkErrors, NvlinkRate
from telemetry.agent.backends.nvml.nvlink5 import NVLINK_5, derive_nvlink5
from telemetry.agent.backends.nvml.readings import (
    CALL_LINES,
    FIELD_LINES,
    MEMORY_BEFORE_510,
    NVLINK_BIT_ERROR_CODES,
    RAW_FIELDS,
)
from telemetry.agent.backends.nvml.session import Session
from telemetry.agent.backends.pace import KEPT_SECONDS, next_due
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

_ASKED_CALLS = [line for line in CALL_LINES if not (line.kept or line.slow)]
_KEPT_CALLS = [line for line in CALL_LINES if line.kept]
_SLOW_CALLS = [line for line in CALL_LINES if line.slow]
_ASKED_FIELDS = [line for line in FIELD_LINES if not line.slow]
_SLOW_FIELDS = [line for line in FIELD_LINES if line.slow]
_XIDS = ("xid_last", "xid_errors_total")

POWER_METRICS = ("power_draw_watts", "power_draw_instant_watts")


class Xids(Protocol):
    """Who hears the driver's XIDs: the last one of a device by UUID, and how many there were."""

    def xid_state(self, uuid: str) -> tuple[int, int] | AbsentReason:
        """Return them, or why the device's are not heard."""

    def counted_xids(self, uuid: str) -> tuple[int, int] | None:
        """Return them where there were any, also while none are heard."""


class Board(NvmlSource):
    """`is_mig` is whether it is divided; what it refuses then (its utilisation) is found by probing, as everything is."""

    metrics = tuple(
        dict.fromkeys(
            [
                *(line.metric for line in CALL_LINES),
                *(line.metric for line in FIELD_LINES if line.metric not in RAW_FIELDS),
                *GPM_METRICS,
                *NVLINK_BIT_ERROR_CODES.values(),
                *ERROR_METRICS,
                RATE,
                USED_RATIO,
                LICENSED,
                *_XIDS,
            ]
        )
    )

    def __init__(
        self,
        listed: Listed,
        session: Session,
        clock: Callable[[], float],
        xids: Xids,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        super().__init__(listed, session, clock)
        self._kept_seconds = kept_seconds
        self.is_mig = listed.is_mig
        self._xids = xids
        self._asked: Asked | None = None
        self._power: Asked | None = None
        self._due = self._kept_due = float("-inf")
        self._asked_at = 0.0
        self._told_xids: tuple[int, int] | AbsentReason | None = None  # as they stand in what a tick begins with
        self._is_kept_new = False
        self._kept_calls: CallBatch | None = None

    @property
    def memory_call_is_old(self) -> bool:
        return self._kept_calls is not None and MEMORY_BEFORE_510 in self._kept_calls.calls

    def meet(self, listed: Listed) -> None:
        super().meet(listed)
        if listed.is_mig is not None and listed.is_mig != self.is_mig:
            self.is_mig, self._is_probed = listed.is_mig, False

    def heard(self) -> Mapping[str, Reading]:
        """Return the XIDs, where they are heard or any were: the one that tells of a board's loss comes with it."""
        uuid = self.device.uuid
        heard, counted = self._xids.xid_state(uuid), self._xids.counted_xids(uuid)
        xids = heard if isinstance(heard, tuple) else counted
        return {} if xids is None else dict(zip(_XIDS, xids, strict=True))

    def read_power(self) -> Mapping[str, Reading]:
        """Return power alone, nothing until the board was read once. Energy's counter loses nothing between full ticks."""
        power, session = self._power, self._session
        if power is None or not self._is_probed:
            return {}
        if not session.enter():
            return self._absent(POWER_METRICS, AbsentReason.RELEASED)
        was_usual = power.usual is not None
        try:
            deferred = power.ask(0.0)  # no rate hangs on the time
        finally:
            session.leave()
        if deferred is not None:
            return deferred
        readings = self._guarded(self._told_power, POWER_METRICS)
        session.n_changes += was_usual or power.usual is not None
        return readings

    def _told_power(self) -> Mapping[str, Reading]:
        """Return what the last asking for power brought, where not all is as it was."""
        readings: dict[str, Reading] = {}
        if self._power is not None:
            self._power.put(readings, self._clock())
        return readings

    def read(self) -> Mapping[str, Reading]:
        """As any source's; by a short way where nothing is due but what is asked each tick."""
        now, session = self._clock(), self._session
        if not self._is_probed or now >= self._due or not session.enter():
            return super().read()
        try:
            deferred = self._ask(now)
        finally:
            session.leave()
        if deferred is None:
            return self._guarded(self._told_alone, self.metrics)
        self.gone = None
        return deferred

    @property
    def power(self) -> Asked | None:
        """Return what is asked for power alone, None until the board was read once."""
        return self._power if self._is_probed else None

    def _probe(self) -> Mapping[str, Reading]:
        # One call for all fields: what is asked each tick is asked as one where that is offered, a call each where not.
        fields = FieldBatch(self._handle, _ASKED_FIELDS)
        calls = CallBatch(self._handle, [line for line in _ASKED_CALLS if line.metric not in fields.metrics])
        self._kept_calls = kept_calls = CallBatch(self._handle, _KEPT_CALLS)
        self._slow_calls = CallBatch(self._handle, _SLOW_CALLS)
        offered = kept_calls.metrics | self._slow_calls.metrics
        self._slow_fields = FieldBatch(self._handle, [line for line in _SLOW_FIELDS if line.metric not in offered])
        self._kept_due = self._slow_due = float("-inf")
        self._has_nvlink5 = not NVLINK_5.isdisjoint(self._slow_fields.metrics)
        self._links = NvlinkErrors(self._handle, phase_seconds=self.device.index)
        self._licence = Licence(self._handle)
        # Readers of their own, which tell nobody what the whole reading has not seen.
        self._power = Asked(
            CallBatch(self._handle, calls.lines_of(POWER_METRICS)),
            FieldBatch(self._handle, fields.lines_of(POWER_METRICS)),
            None,
            None,
        )
        self._told_xids = None
        known = {**calls.fixed, **self._slow_calls.fixed, **self._take_gpm(self._handle)}
        self._asked = Asked(calls, fields, self._gpm, NvlinkRate())
        return known

    def _keep(self, now: float) -> bool:
        calls, known = self._kept_calls, self._known
        if now < self._kept_due or calls is None:
            return True
        self._kept_due = next_due(now, self._kept_seconds)
        is_well = calls.refresh(known)
        if now >= self._slow_due:
            self._slow_due = next_due(now, 2 * self._kept_seconds)
            is_well = self._slow_calls.refresh(known) and is_well
            is_well = self._slow_fields.refresh(known) and is_well
        self._links.read(known, now)
        if self._has_nvlink5:
            derive_nvlink5(known)
        self._licence.read(known, now)
        derive_used_ratio(known)
        self._is_kept_new = True
        return is_well

    def _read(self) -> Mapping[str, Reading]:
        readings = super()._read()
        self._due = min(self._kept_due, self._gpm_again_at)
        return readings

    def _fill(self, now: float) -> tuple[Mapping[str, Reading], bool]:
        asked = self._asked
        assert asked is not None  # noqa: S101 — probed before
        if asked.gpm is not self._gpm:
            self._asked = asked = asked.with_gpm(self._gpm)
            self._is_kept_new = True
        deferred = self._ask(now)
        return self._told() if deferred is None else (deferred, True)

    def _ask(self, now: float) -> Deferred | None:
        """Ask what is asked each tick. Return the tick; None where `_told` is to say what there is."""
        asked, xids = self._asked, self._xids.xid_state(self.device.uuid)
        assert asked is not None  # noqa: S101 — probed before
        if xids != self._told_xids:
            self._told_xids, self._is_kept_new = xids, True
            self._known.update(zip(_XIDS, xids if isinstance(xids, tuple) else (xids, xids), strict=True))
        if self._is_kept_new:
            self._is_kept_new = False
            asked.keep(self._known)
        self._asked_at = now
        return asked.ask(now)

    def _told(self) -> tuple[dict[str, Reading], bool]:
        """Return what the last asking brought, and whether the device answers as it should."""
        readings = self._known.copy()
        is_well = self._asked is not None and self._asked.put(readings, self._asked_at)
        return readings, is_well

    def _told_alone(self) -> Mapping[str, Reading]:
        readings, is_well = self._told()
        self.gone = None
        if not is_well:
            self._session.is_changed = True
            self.forget_handle()
        return readings
