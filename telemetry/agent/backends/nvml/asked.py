"""All that a board is asked each tick, and its answers as one row of raw numbers. Made and used by board.py alone.

Where everything answers as it did, the row is all that a tick costs: what it means is found out when a batch is made.
"""

from collections.abc import Mapping, Sequence

from telemetry.agent.backends.deferred import Deferred, Kept
from telemetry.agent.backends.nvml.calls import Ask, CallBatch
from telemetry.agent.backends.nvml.conversion import conversion, picker
from telemetry.agent.backends.nvml.fields import FieldBatch
from telemetry.agent.backends.nvml.gpm import GpmReader
from telemetry.agent.backends.nvml.nvlink import RATE, NvlinkRate
from telemetry.agent.backends.nvml.readings import GPM_LINES, NVLINK_RECEIVED, NVLINK_SENT
from telemetry.agent.backends.protocol import Reading


class Asked:
    """`gpm` is None where the board has no such metrics, `rate` where the fields have no counters of NVLink."""

    def __init__(self, calls: CallBatch, fields: FieldBatch, gpm: GpmReader | None, rate: NvlinkRate | None) -> None:
        self.gpm = gpm
        self._calls, self._fields, self._rate = calls, fields, rate
        self._asks: list[Ask] = [*calls.asks, *([fields.call] if fields.lines else [])]
        pairs = gpm.pairs if gpm else ()
        self._in_step: list[list[Ask]] = [[*self._asks, pair.take, pair.evaluate] for pair in pairs]
        lines = [*calls.lines, *fields.lines, *(GPM_LINES if gpm else ())]
        metrics = [line.metric for line in lines]
        counters = (NVLINK_SENT, NVLINK_RECEIVED)  # of one alone there is no rate
        has_rate = all(counter in metrics for counter in counters)
        self._counters = picker(tuple(map(metrics.index, counters))) if has_rate else None
        places = tuple(place for place, metric in enumerate(metrics) if metric not in counters)
        self._pick = picker(places)
        made = ((RATE,), (1,)) if has_rate else ((), ())
        self._conversion = conversion(
            (*(metrics[place] for place in places), *made[0]), (*(lines[place].divisor for place in places), *made[1])
        )
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
            self._n_known, asked = len(known), {*self._conversion.metrics}
            self._kept = Kept.of({name: reading for name, reading in known.items() if name not in asked})

    def ask(self, now: float) -> Deferred | None:
        """Ask everything. Return the tick; None where `put` is to tell what there is."""
        gpm = self.gpm
        of_gpm: Sequence[float] | None
        if gpm is not None and gpm.is_in_step(now):
            *codes, sampled, code = [ask() for ask in self._in_step[gpm.next_turn()]]
            of_gpm = gpm.took(now, sampled, code)
        else:
            codes, of_gpm = [ask() for ask in self._asks], gpm.ask(now) if gpm else ()
        of_fields = self._fields.took(codes.pop()) if self._fields.lines else ()
        of_calls = self._calls.took(codes)
        if of_calls is None or of_fields is None or of_gpm is None:
            return None
        raw = (*of_calls, *of_fields, *of_gpm)
        if not (self._rate and self._counters):
            return Deferred(self._kept, self._conversion, self._pick(raw))
        rate = self._rate.follow(now, *self._counters(raw))
        return None if rate is None else Deferred(self._kept, self._conversion, (*self._pick(raw), rate))

    def ask_alone(self) -> Deferred | None:
        """As `ask`, of what has neither GPM metrics nor rates: in fewer steps, since it is done ten times a second."""
        if self._calls.asks:
            return self.ask(0.0)
        raw = self._fields.took(self._fields.call()) if self._fields.lines else None
        return None if raw is None else Deferred(self._kept, self._conversion, tuple(raw))

    def put(self, readings: dict[str, Reading], now: float) -> bool:
        """Put the answers of the last `ask` into `readings`. Return False where the device answers strangely.

        Raises DeviceGoneError and DriverAwayError.
        """
        is_well = self._calls.put(readings)
        is_well = self._fields.put(readings) and is_well
        if self._rate:
            self._rate.derive(readings, now)
        return (self.gpm is None or self.gpm.put(readings)) and is_well
