"""All that a board is asked each tick, and its answers as the bytes that the driver wrote. Made and used by board.py alone.

Where everything answers as it did, those bytes are all that a tick costs: what they mean is found out when a batch is made
(answers.py).
"""

from collections.abc import Mapping
from typing import Any

from telemetry.agent.backends.deferred import Deferred, Kept
from telemetry.agent.backends.nvml.answers import Answers, answers
from telemetry.agent.backends.nvml.calls import CallBatch
from telemetry.agent.backends.nvml.conversion import unpacker
from telemetry.agent.backends.nvml.fields import FieldBatch, status_layout, values_layout
from telemetry.agent.backends.nvml.gpm import MAX_SECONDS, MIN_SECONDS, STATUS_LAYOUT, VALUES_LAYOUT, GpmReader
from telemetry.agent.backends.nvml.nvlink import RATE, Counted, NvlinkRate
from telemetry.agent.backends.nvml.readings import GPM_LINES, NVLINK_RECEIVED, NVLINK_SENT
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rounds import Ask

_COUNTERS = (NVLINK_SENT, NVLINK_RECEIVED)


class Asked:
    """`gpm` is None where the board has no such metrics, `rate` where nobody asks for NVLink's."""

    def __init__(self, calls: CallBatch, fields: FieldBatch, gpm: GpmReader | None, rate: NvlinkRate | None) -> None:
        self.gpm = gpm
        self._calls, self._fields, self._rate = calls, fields, rate
        # What is asked but for GPM, and where it is answered.
        self.asks: list[Ask] = [*calls.asks, *([fields.call] if fields.lines else [])]
        pairs = gpm.pairs if gpm else ()
        # By the pair whose turn it is: what is asked, and where it is answered.
        self._in_step: list[list[Ask]] = [[*self.asks, pair.take, pair.evaluate] for pair in pairs] or [self.asks]
        self.rooms: tuple[bytearray, ...] = (calls.room, fields.room)
        self._rooms: list[tuple[Any, ...]] = [(*self.rooms, pair.room) for pair in pairs] or [self.rooms]
        self.status_layout = f"{len(calls.room)}x" + status_layout(len(fields.lines)) + (STATUS_LAYOUT if gpm else "")
        self._statuses = unpacker("=" + self.status_layout)
        self._as_usual: tuple[int, ...] | None = None  # the statuses of a tick that `_answers` understands
        self._answers: Answers | None = None
        self._last: tuple[float, bytes] | Counted | None = None
        self._lines = [*calls.lines, *fields.lines, *(GPM_LINES if gpm else ())]
        metrics = {line.metric for line in self._lines}
        has_rate = metrics.issuperset(_COUNTERS)  # of one alone there is no rate
        self._metrics = metrics.difference(_COUNTERS) | ({RATE} if has_rate else set())
        self._kept = Kept.of({})
        self._n_known = 0

    def with_gpm(self, gpm: GpmReader | None) -> "Asked":
        """Return what is asked from now on, where the GPM metrics began anew."""
        return Asked(self._calls, self._fields, gpm, self._rate)

    def keep(self, known: Mapping[str, Reading]) -> None:
        """Take note of what stands in the ticks to come beside what is asked."""
        if len(known) == self._n_known:
            self._kept = self._kept.again(known)
        else:
            self._n_known = len(known)
            self._kept = Kept.of({name: reading for name, reading in known.items() if name not in self._metrics})

    @property
    def usual(self) -> tuple[tuple[int, ...], Answers] | None:
        """Return the statuses of a tick whose answers are taken as they come, and what understands them."""
        return None if self._answers is None or self._as_usual is None else (self._as_usual, self._answers)

    def ask(self, now: float) -> Deferred | None:
        """Ask everything. Return the tick; None where `put` is to tell what there is."""
        gpm, turn = self.gpm, 0
        if gpm is not None:
            if not MIN_SECONDS <= now - gpm.sampled_at <= MAX_SECONDS:
                self._ask_apart(gpm, now)
                return None
            gpm.turn = turn = 1 - gpm.turn
        codes = [ask() for ask in self._in_step[turn]]
        raw = b"".join(self._rooms[turn])
        known = self._answers
        if known is None or any(codes) or self._statuses(raw) != self._as_usual:
            self._note(codes, now)
            return None
        if gpm is not None:
            gpm.sampled_at = now
        before, self._last = self._last, (now, raw)
        return Deferred(self._kept, known, (now, raw, before))

    def put(self, readings: dict[str, Reading], now: float) -> bool:
        """Put the answers of the last `ask` into `readings`. Return False where the device answers strangely.

        Raises DeviceGoneError and DriverAwayError.
        """
        is_well = self._calls.put(readings)
        is_well = self._fields.put(readings) and is_well
        if self._rate:
            self._rate.derive(readings, now)
            self._last = self._rate.before
        is_well = (self.gpm is None or self.gpm.put(readings)) and is_well
        self._learn()
        return is_well

    def _ask_apart(self, gpm: GpmReader, now: float) -> None:
        """Ask where the GPM sample of now cannot be compared with one before."""
        codes = [ask() for ask in self.asks]
        gpm.ask(now)
        self._note(codes, now)

    def _note(self, codes: list[int], now: float) -> None:
        """Have each reader know what it was answered, so that `put` can tell what it means."""
        n = len(self._calls.asks)
        self._calls.took(codes[:n])
        if self._fields.lines:
            self._fields.took(codes[n])
        if self.gpm is not None and len(codes) > len(self.asks):
            self.gpm.took(now, *codes[-2:])
        last = self._last
        if self._rate and self._answers and last is not None:
            self._rate.before = (
                self._answers.counted(last[0], last[1]) if isinstance(last[1], bytes) else (last[0], last[1])
            )
        self._answers = None

    def _learn(self) -> None:
        """Where all was answered by numbers, have the next ticks taken as they come, as long as it is."""
        kinds, gpm = self._fields.kinds, self.gpm
        if kinds is None or not self._calls.is_plain or not (gpm is None or gpm.is_plain):
            return
        lines, metrics = self._lines, [line.metric for line in self._lines]
        n = self._calls.n_numbers
        places = (*self._calls.positions, *range(n, n + len(lines) - len(self._calls.positions)))
        named = [at for at, metric in enumerate(metrics) if metric in self._metrics]
        self._answers = answers(
            self._calls.layout + values_layout(kinds) + (VALUES_LAYOUT if gpm else ""),
            tuple([places[at] for at in named]),
            tuple([metrics[at] for at in named]),
            tuple([lines[at].divisor for at in named]),
            tuple([places[metrics.index(counter)] for counter in _COUNTERS]) if RATE in self._metrics else None,
        )
        self._as_usual = (*[each for kind in kinds for each in (kind, 0)], *((0,) * len(GPM_LINES) if gpm else ()))
