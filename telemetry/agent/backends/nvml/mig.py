"""A MIG instance: a device of its own under its board. Made by roster.py, read by the sampler after its board.

It has memory, GPM metrics and processes; power, temperature, clocks and errors are its board's.
"""

from collections.abc import Callable, Mapping

from telemetry.agent.backends.nvml.board import Board
from telemetry.agent.backends.nvml.calls import CallBatch
from telemetry.agent.backends.nvml.device import USED_RATIO, NvmlSource, derive_used_ratio
from telemetry.agent.backends.nvml.errors import DeviceGoneError
from telemetry.agent.backends.nvml.gpm import GPM_METRICS
from telemetry.agent.backends.nvml.identity import Listed
from telemetry.agent.backends.nvml.readings import MEMORY_LINES
from telemetry.agent.backends.nvml.session import Session
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason


class Instance(NvmlSource):
    """One MIG device. What its board is, it is too: lost, or to be reset."""

    metrics = tuple(dict.fromkeys([*(line.metric for line in MEMORY_LINES), USED_RATIO, *GPM_METRICS]))

    def __init__(self, listed: Listed, session: Session, clock: Callable[[], float], board: Board) -> None:
        super().__init__(listed, session, clock)
        self._board = board
        self._instance_id = listed.instance_id
        self._n_board_probes = 0
        self._calls: CallBatch | None = None

    @property
    def board(self) -> Board:
        return self._board

    def meet(self, listed: Listed) -> None:
        super().meet(listed)
        if listed.instance_id != self._instance_id:
            # Drivers give handles and UUIDs again to instances that are made anew.
            self._instance_id, self._is_probed = listed.instance_id, False

    def _readings(self, now: float) -> Mapping[str, Reading]:
        if self._board.gone is not None:
            raise DeviceGoneError(self._board.gone)
        if self._board.handle is None:
            return self._all(AbsentReason.UNKNOWN)  # it is looked for at its own next read
        if self._board.n_probes != self._n_board_probes:
            # Its handle may be another one now, and GPM asks the board for the instance's metrics.
            self._n_board_probes, self._is_probed = self._board.n_probes, False
        return super()._readings(now)

    def _probe(self) -> Mapping[str, Reading]:
        self._calls = CallBatch(self._handle, MEMORY_LINES)
        return self._take_gpm(self._board.handle, self._instance_id)

    def _fill(self, now: float) -> tuple[dict[str, Reading], bool]:
        readings, calls = self._known.copy(), self._calls
        is_well = calls is not None and calls.read(readings)
        if self._gpm is not None:
            is_well = self._gpm.read(readings, now) and is_well
        derive_used_ratio(readings)
        return readings, is_well
