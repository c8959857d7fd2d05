"""The sampler: two threads that take turns. Called by the agent's process; the batcher takes the ticks away.

A turn is a full tick, and the ticks of power until the next one. The thread that wakes for a full tick sees whether the
other still is in its own. If that one's driver call hangs, it is left there, its device is held, another thread takes its
place, and sampling goes on: a watchdog that costs no wake of its own.

Ticks lie on a grid of CLOCK_BOOTTIME. Each carries the offset to the wall clock that was read beside it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from telemetry.agent.backends.rounds import Joint
from telemetry.agent.collector import Collector, Driver
from telemetry.agent.ticks import Tick, boot_seconds
from telemetry.agent.watch import Relieved, Watch
from telemetry.message.wire import DeviceInfo, Topology

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.75  # a call that lasts longer is said to hang
FAREWELL_SECONDS = 1.0
_THREADS = 2

# A tick of power: the first members of a Tick, which costs more to make.
_Between = tuple[int, float, float, Joint | tuple[()]]


class Sampler:
    """`power_period` divides `period`: the ticks between two full ones have the readings of power alone."""

    def __init__(
        self,
        collector: Collector,
        period: float,
        *,
        power_period: float | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._collector = collector
        self._period = period
        self._each = max(1, round(period / (power_period or period)))  # every so many ticks is a full one
        self._step = period / self._each
        self._patience = patience
        self._turn = threading.Lock()  # over all that follows
        # One for each thread, which it sleeps on: a condition makes a lock for each wait, at every tick.
        self._alarms: dict[threading.Thread, threading.Lock] = {}
        self._claimed = 0  # the number of the last tick that a thread has taken on
        self._begun = 0  # the number of the last tick whose reading began
        self._reading: tuple[Watch, Tick | None] | None = None  # whose turn it is, and what it reads into
        self._ticks: list[Tick] = []
        self._between: list[_Between] = []
        self._lateness = 0.0
        self._after_full_tick: Callable[[], None] = _nothing
        self._is_stopping = False
        self._is_change_asked = False
        self._started = boot_seconds()  # where the grid begins
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        with self._turn:
            for _ in range(_THREADS):
                self._start_one()

    def stop(self) -> None:
        """End sampling and let go of the drivers, where they let go in time."""
        with self._turn:
            self._is_stopping = True
            self._wake_all()
        deadline = time.monotonic() + FAREWELL_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        closing = threading.Thread(target=self._collector.close, name="sample-end", daemon=True)
        closing.start()
        closing.join(max(0.1, deadline - time.monotonic()))

    def after_full_tick(self, act: Callable[[], None]) -> None:
        """Have `act` called after each full tick, by the thread that read it, when its turn is over. It must not raise."""
        self._after_full_tick = act

    def release(self, known: Mapping[str, Sequence[DeviceInfo]]) -> None:
        """Have the drivers let go of at once. `known` names devices by backend, where one was not opened yet."""
        self._collector.release(known)
        self._ask_for_change()

    def resume(self) -> None:
        """Have the drivers taken up again at once."""
        self._collector.resume()
        self._ask_for_change()

    def drivers(self) -> list[Driver]:
        """Return how it stands with what can be let go of."""
        return self._collector.drivers()

    def take(self) -> list[Tick]:
        """Return the ticks up to the last full one, oldest first, and forget them."""
        with self._turn:
            self._ticks += [
                Tick(number, due, offset, is_full=False, joint=joint or None)
                for number, due, offset, joint in self._between
            ]
            self._between.clear()
            self._ticks.sort(key=lambda tick: tick.number)
            n = next((n for n in range(len(self._ticks), 0, -1) if self._ticks[n - 1].is_full), 0)
            taken, self._ticks = self._ticks[:n], self._ticks[n:]
        return taken

    def take_lateness(self) -> float:
        """Return how late the latest tick since the last call began, in seconds."""
        worst, self._lateness = self._lateness, 0.0
        return worst

    def devices(self) -> list[DeviceInfo]:
        return self._collector.devices()

    def software(self) -> dict[str, str]:
        return self._collector.software()

    def topology(self) -> Topology | None:
        return self._collector.topology()

    def _ask_for_change(self) -> None:
        with self._turn:
            self._is_change_asked = True
            self._wake_all()

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._run, name="sample", daemon=True)
        self._threads.append(thread)
        self._alarms[thread] = alarm = threading.Lock()
        alarm.acquire()
        thread.start()

    def _wake_all(self) -> None:
        """Wake who sleeps, and let who is about to sleep look again. Called with the lock."""
        for alarm in self._alarms.values():
            if alarm.locked():
                alarm.release()

    def _run(self) -> None:
        """A thread's life: it ends when it is told to, or when a call comes back after another took its place."""
        watch, alarm = Watch(boot_seconds), self._alarms[threading.current_thread()]
        try:
            while (tick := self._await_tick(watch, alarm)) is not None:
                self._read(tick, watch)
                if self._each > 1:
                    self._walk(tick.number, watch)
        except Relieved:
            logger.info("a driver call that hung has come back")
        with self._turn:
            self._threads.remove(threading.current_thread())
            del self._alarms[threading.current_thread()]

    def _read(self, tick: Tick, watch: Watch) -> None:
        try:
            self._collector.fill(tick, watch)
        # The outermost loop of this thread: what was read until then is kept, and the next tick is tried.
        except Exception:
            logger.exception("tick %d could not be read to its end", tick.number)
        with self._turn:
            self._reading = None
            self._ticks.append(tick)
        if tick.is_full:
            self._after_full_tick()

    def _walk(self, number: int, watch: Watch) -> None:
        """Read the ticks of power between that one and the next full one, for which another thread is there. Raises Relieved.

        In few steps, as nothing of them is left in the processor's caches since the tick before. Nothing wakes it early: what
        is asked for meanwhile is the other's to do.
        """
        full = number + self._each - number % self._each
        while (number := number + 1) < full:
            due = self._started + number * self._step
            left = due - boot_seconds()
            if left > 0:
                time.sleep(left)  # costs half of what waiting for a lock does
            with self._turn:
                if self._is_stopping or self._is_change_asked:
                    return
                now = boot_seconds()
                late, offset = now - due, time.time() - now
                self._lateness = max(self._lateness, late)
                if self._reading is not None or number <= self._begun or late > self._step / 2:
                    continue
                self._begun, self._reading = number, (watch, None)
            powered = self._collector.powered
            try:
                joint = powered.read_power_together(watch, now, due + self._step / 2) if powered else None
            except Exception:  # as in `_read`: the next tick is tried
                logger.exception("the power of tick %d could not be read", number)
                joint = ()
            if joint is None:
                tick = Tick(number, due, offset, is_full=False)
                with self._turn:
                    self._reading = (watch, tick)
                self._read(tick, watch)
                continue
            with self._turn:
                self._reading = None
                self._between.append((number, due, offset, joint))

    def _await_tick(self, watch: Watch, alarm: threading.Lock) -> Tick | None:
        """Sleep until the next full tick that nobody has claimed, and return it; None where sampling ends. Raises Relieved.

        While the other thread is in a call for long, until the next tick of any kind.
        """
        every = self._each
        with self._turn:
            while not self._is_stopping:
                number = max(self._claimed, int((boot_seconds() - self._started) / self._step)) + 1
                number += -number % every
                self._claimed = number
                due = self._started + number * self._step
                if not self._sleep(due, watch, alarm):
                    break
                if not self._is_in_time(number, due):
                    continue
                # Where the other thread is still in its tick, but not for too long, this one is lost.
                if self._reading is None or self._relieve(*self._reading):
                    return self._begin(number, due, watch)
                every = 1
        return None

    def _is_in_time(self, number: int, due: float) -> bool:
        """Whether a tick can still be read: after a stall of the machine both threads wake overdue, in any order."""
        late = boot_seconds() - due
        self._lateness = max(self._lateness, late)
        return number > self._begun and late <= (self._period if self._is_full(number) else self._step) / 2

    def _begin(self, number: int, due: float, watch: Watch) -> Tick:
        self._begun = number
        tick = Tick(number, due, time.time() - boot_seconds(), is_full=self._is_full(number))
        self._reading = (watch, tick)
        return tick

    def _is_full(self, number: int) -> bool:
        return number % self._each == 0

    def _sleep(self, due: float, watch: Watch, alarm: threading.Lock) -> bool:
        """Wait; return False where sampling ends. Called with the lock.

        Meanwhile lets go of drivers and takes them up, where that is asked. Raises Relieved.
        """
        while (left := due - boot_seconds()) > 0 and not self._is_stopping:
            if self._is_change_asked and self._reading is None:
                self._change(watch)
            else:
                self._turn.release()
                try:
                    alarm.acquire(timeout=left)
                finally:
                    self._turn.acquire()
        return not self._is_stopping

    def _change(self, watch: Watch) -> None:
        self._is_change_asked = False
        self._reading = (watch, None)
        self._turn.release()
        try:
            self._collector.settle(watch)
        finally:
            self._turn.acquire()
        self._reading = None

    def _relieve(self, other: Watch, tick: Tick | None) -> bool:
        """Take the turn from a thread whose driver call hangs, and start one in its place. Called with the lock."""
        held = other.relieve(self._patience)
        if held is None:
            return False
        logger.log(held.level, "%s; the others go on", held.text)
        if tick is not None:
            self._collector.mark_held(tick)
            self._ticks.append(tick)
        self._start_one()
        return True


def _nothing() -> None:
    """What is done after a tick that nobody waits for."""
