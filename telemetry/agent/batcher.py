"""From ticks to batches: every few seconds the sampler's ticks become one batch's bytes, handed to the sender.

A wall clock that jumps begins a new segment: the ticks before and after it never share a batch.
"""

import logging
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

from telemetry.agent.sampler import Sampler, Tick
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.wire import Batch, DeviceInfo, pack

logger = logging.getLogger(__name__)

JUMP_SECONDS = 0.25  # an offset that changes by more within one tick is a step of the wall clock, not its slewing


class Batcher:
    """Runs on a thread of its own. `(epoch, sequence)` names each batch for ever; the epoch is new with each start."""

    def __init__(
        self, host: str, sampler: Sampler, send: Callable[[bytes], None], sender_cost: Callable[[], dict[str, float]],
        *, period: float, sample_seconds: float,
    ) -> None:  # fmt: skip
        self._host, self._sampler, self._send, self._sender_cost = host, sampler, send, sender_cost
        self._period, self._sample_seconds = period, sample_seconds
        self._epoch, self._sequence, self._segment = uuid4().hex, 0, 0
        self._offset: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hand over what is left."""
        self._stop.set()
        self._thread.join(timeout=2)
        self.flush(everything=True)

    def flush(self, *, everything: bool = False) -> None:
        """Make batches of the ticks that are complete and hand them over."""
        for ticks in self._segments(self._sampler.take(everything=everything)):
            self._send(pack(self._batch(ticks)))
            self._sequence += 1

    def _run(self) -> None:
        first = min(1.0, self._period)  # the first readings are on the page at once, not after a whole period
        while not self._stop.wait(first if self._sequence == 0 else self._period):
            try:
                self.flush()
            except Exception:  # the outermost loop of this thread: one batch is lost and said so, the next is tried
                logger.exception("a batch could not be made")

    def _segments(self, ticks: Sequence[Tick]) -> Iterator[list[Tick]]:
        part: list[Tick] = []
        for tick in ticks:
            if self._offset is not None and abs(tick.wall_offset_seconds - self._offset) > JUMP_SECONDS:
                if part:
                    yield part
                part = []
                self._segment += 1
                logger.warning(
                    "the wall clock jumped by %.1f s: a new segment begins",
                    tick.wall_offset_seconds - self._offset,
                )
            self._offset = tick.wall_offset_seconds
            part.append(tick)
        if part:
            yield part

    def _batch(self, ticks: list[Tick]) -> Batch:
        offset = ticks[0].wall_offset_seconds  # one offset a batch: its times ascend as the ticks do
        devices = list({uuid: device for tick in ticks for uuid, device in tick.devices.items()}.values())
        return Batch(
            host=self._host,
            epoch=self._epoch,
            sequence=self._sequence,
            segment=self._segment,
            sent_ms=int(time.time() * 1000),
            times_ms=[round((tick.boot_seconds + offset) * 1000) for tick in ticks],
            sample_seconds=self._sample_seconds,
            devices=devices,
            columns=_columns(ticks, devices),
            absent=_absent(ticks[-1]),
            software=self._sampler.software(),
        )


def _columns(ticks: Sequence[Tick], devices: Sequence[DeviceInfo]) -> dict[str, list[list[float | None]]]:
    columns = {}
    for metric in BY_NAME:
        block = [[_number(tick.readings.get(device.uuid, {}).get(metric)) for tick in ticks] for device in devices]
        if any(value is not None for column in block for value in column):
            columns[metric] = block
    return columns


def _number(value: float | AbsentReason | None) -> float | None:
    return None if isinstance(value, AbsentReason) else value


def _absent(tick: Tick) -> dict[str, dict[str, AbsentReason]]:
    return {
        uuid: {metric: reason for metric, reason in readings.items() if isinstance(reason, AbsentReason)}
        for uuid, readings in tick.readings.items()
    }


def own_cost() -> dict[str, float]:
    """Return this process's CPU seconds and resident bytes (getrusage, /proc/self/statm)."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:  # noqa: PTH123 — a Path object per batch is waste here
        pages = int(statm.read().split()[1])
    return {
        "cpu_seconds_total": usage.ru_utime + usage.ru_stime,
        "resident_bytes": pages * resource.getpagesize(),
    }
