"""What is sent next: fresh batches first, then what waits from before, in the order in which it was made. Called by the sender.

A fresh batch goes out as soon as it is in the spool, so that the page is live while the rest follows. What waits from
before follows one by one, at most PER_SECOND, while fewer than a window of it are unanswered: the window doubles while
the server acknowledges soon, and halves while it does not, so that a fleet that comes back does not stand in its own
way. What stays unanswered is sent again: some time after a reconnect, as the broker may have lost it; as soon where the
server has answered what was sent later, for a client that finds its broker again by itself tells nobody of it; else after
longer than the broker itself would hand it out again. Each time after twice the time: a server that is down loses nothing.
What was sent several times, while the server answered what was sent after it, was refused: it keeps nothing waiting any
more, and is sent on seldom. Where all that is under way may be such, another batch now and then asks: a fresh one,
where there is any.
"""

import heapq
import math
import random
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from telemetry.agent.names import Names, Parcel
from telemetry.agent.spool import Spool
from telemetry.agent.spool_file import Kept, Ranges
from telemetry.agent.unheard import Unheard
from telemetry.broker.transport import VISIBILITY_TIMEOUT_SECONDS

MOST_UNANSWERED = 200  # with that, the broker of a server that is down fills up no further
FIRST_WINDOW = 8
SOON_ANSWERED = 12  # as many are under way where all is well; of more the spool may have the only copy
SOON_SECONDS = 30.0  # twice the time between two acknowledgements
PER_SECOND = 20.0
RESEND_SECONDS = 1.5 * VISIBILITY_TIMEOUT_SECONDS
RECONNECT_SECONDS = 30.0  # an acknowledgement that was on its way comes before
LONGEST_SECONDS = 3600.0
REFUSED_AFTER = 3  # times sent: fewer may have been lost on their way
REFUSED_SECONDS = 86_400.0  # a server that is mended takes them; a week's batches are not to fill the line until then
PROBE_SECONDS = 300.0
FIRST_DELAY_SECONDS = 2.0  # after a connect: the hosts of a fleet do not all begin at once
_ROWS = 20
_OVER_LATER = 64  # entries of the heap that stand for no flight, beside as many as there are flights


@dataclass(slots=True)
class _Flight:
    """A batch that was sent and is not acknowledged. Times are those of the monotonic clock."""

    sent: float
    due: float
    n_sent: int
    is_late: bool
    is_refused: bool = False  # counts no more among those that are under way


class Outbox:
    """`put` and `acknowledge` may be called from any thread; all else by one thread at a time."""

    def __init__(
        self,
        spool: Spool,
        *,
        n_hosts: int = 1,
        most_unanswered: int = MOST_UNANSWERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`n_hosts` send by way of this one: a simulation's. `most_unanswered` are those of all."""
        self._spool, self._most, self._clock = spool, most_unanswered, clock
        self._first_window, self._per_second = float(FIRST_WINDOW * n_hosts), PER_SECOND * n_hosts
        self._window, self._soon_answered = self._first_window, SOON_ANSWERED * n_hosts
        self._handed_in: deque[Parcel] = deque()
        self._acknowledged: deque[tuple[str, Ranges]] = deque()
        self._storing = Lock()
        self._fresh: deque[Kept] = deque()
        self._flights: dict[str, dict[int, _Flight]] = {}
        self._n_flights = self._n_late = 0
        # A heap of when flights are due; what is not the flight's own time any more is passed over.
        self._due: list[tuple[float, str, int]] = []
        self._passed = 0  # all that was added before this one is sent, but for what flights stand for
        self._turn = spool.turn
        self._has_backlog = spool.n_batches > 0
        self._backlog: deque[Kept] = deque()
        self._paced_at = 0.0
        self._began_last = -math.inf  # when a batch was sent for the first time
        self._n_sent = 0
        self._unheard = Unheard()
        self.is_eager = False  # else acknowledgements wait for the next batch: it wakes the sender anyway

    def names(self, host: str, machine: str) -> Names:
        return self._spool.names(host, machine)

    def put(self, parcel: Parcel) -> None:
        """Hand a batch in; it is kept and sent by the sender's thread, which must be woken."""
        self._handed_in.append(parcel)

    def acknowledge(self, epoch: str, ranges: Ranges) -> None:
        """Take note of what the server has; it leaves the spool with the next `store`."""
        self._acknowledged.append((epoch, ranges))

    @property
    def has_news(self) -> bool:
        """Whether `store` has something to do."""
        return bool(self._handed_in or (self._acknowledged and (self._has_backlog or self.is_eager)))

    @property
    def is_sent(self) -> bool:
        """Whether the broker has had all that was handed in."""
        return not (self._handed_in or self._fresh or self._has_backlog)

    @property
    def n_unsent(self) -> int:
        """Return how many fresh batches the broker has not taken yet."""
        return len(self._handed_in) + len(self._fresh)

    @property
    def n_waiting(self) -> int:
        """Return how many batches the server has not acknowledged."""
        return len(self._handed_in) + self._spool.n_batches

    def store(self) -> None:
        """Bring the spool up to date with what was handed in and acknowledged."""
        with self._storing:
            while self._acknowledged:
                self._settle(*self._acknowledged.popleft())
            parcels = [self._handed_in.popleft() for _ in range(len(self._handed_in))]
            if parcels:
                self._spool.sync(is_wanted=self._has_backlog or self._n_flights > self._soon_answered)
                self._fresh += self._spool.add(parcels)
            self._spool.tend()
            self._follow()
            while len(self._fresh) > self._most:
                self._fresh.popleft()
                self._has_backlog = True

    def connected(self) -> None:
        """Take note that the broker is reached: it may be another one, or have lost everything."""
        now = self._clock()
        self._unheard.connected()
        self._paced_at = now + random.uniform(0, FIRST_DELAY_SECONDS)  # noqa: S311 — jitter
        for flights in self._flights.values():
            for flight in flights.values():
                flight.due = min(flight.due, now + _jittered(RECONNECT_SECONDS) * 2 ** min(flight.n_sent - 1, 10))
        self._build_heap()

    def disconnected(self) -> None:
        """Take note that the broker is away: what is fresh now will not be then."""
        self._has_backlog |= bool(self._fresh)
        self._fresh.clear()

    def next(self, *, is_last: bool = False) -> Parcel | None:
        """Return what is to be sent now; at the end of the process (`is_last`) nothing that waits from before."""
        if self._fresh:
            if self._n_flights < self._most or self._clock() >= self._began_last + PROBE_SECONDS:
                return self._fresh[0].parcel
            self.disconnected()
        if is_last or self._clock() < self._paced_at:
            return None
        return self._again() or self._from_before()

    def sent(self, parcel: Parcel) -> None:
        """Take note that the broker has it."""
        now = self._clock()
        self._n_sent += 1
        self._unheard.sent(now)
        is_late = not (self._fresh and self._fresh[0].parcel is parcel)
        if not is_late:
            fresh = self._fresh.popleft()
            if not self._has_backlog:
                self._passed = fresh.id
        else:
            self._paced_at = now + _jittered(1 / self._per_second)
            if self._backlog and self._backlog[0].parcel is parcel:
                self._passed = self._backlog.popleft().id
        flights = self._flights.setdefault(parcel.epoch, {})
        before = flights.get(parcel.sequence)
        n_sent = before.n_sent + 1 if before else 1
        flight = _Flight(
            now, now, n_sent, before.is_late if before else is_late, before is not None and before.is_refused
        )
        longest = REFUSED_SECONDS if flight.is_refused else LONGEST_SECONDS
        flight.due = now + min(_jittered(RESEND_SECONDS) * 2 ** min(n_sent - 1, 10), longest)
        flights[parcel.sequence] = flight
        heapq.heappush(self._due, (flight.due, parcel.epoch, parcel.sequence))
        if before is None:
            self._began_last = now
            self._count(flight, 1)

    def wait_seconds(self) -> float | None:
        """Return for how long nothing is to be sent, None where that hangs on what comes in."""
        moments = []
        if self._has_backlog:
            moments.append(
                self._paced_at if self._is_open() else max(self._paced_at, self._began_last + 2 * PROBE_SECONDS)
            )
        while self._due and not self._is_current(*self._due[0]):
            heapq.heappop(self._due)
        if self._due:
            moments.append(max(self._paced_at, self._due[0][0]))
        return max(0.0, min(moments) - self._clock()) if moments else None

    def cost(self) -> dict[str, float]:
        """Return what the agent tells of it: catalogue name → value."""
        return {
            "agent_batches_sent_total": self._n_sent,
            "agent_batches_spooled": self.n_waiting,
            "agent_batches_dropped_total": self._spool.n_dropped,
            "agent_spool_bytes": self._spool.n_bytes,
            "agent_spool_failed": int(self._spool.is_failed),
        }

    def _settle(self, epoch: str, ranges: Ranges) -> None:
        flights = self._flights.get(epoch, {})
        if not ranges:
            return
        self._unheard.answered()
        if not self._spool.has_given(epoch, ranges[-1][1]):
            self._spool.begin_again(epoch)
            for flight in flights.values():
                self._count(flight, -1)
            flights.clear()
            return
        self._spool.remove(epoch, ranges)
        answered = [flights.pop(sequence) for sequence in list(flights) if _holds(ranges, sequence)]
        for flight in answered:
            self._count(flight, -1)
        if answered:
            latest = max(flight.sent for flight in answered)
            wanted = self._window * 2 if self._clock() - latest < SOON_SECONDS else self._window / 2
            self._window = min(max(wanted, self._first_window), self._most)
            self._note_refused(latest)
            self._hurry(epoch, latest)
            if len(self._due) > 2 * sum(map(len, self._flights.values())) + _OVER_LATER:
                self._build_heap()  # it would keep minutes of what was answered at once

    def _note_refused(self, answered: float) -> None:
        """Pass over what was sent often enough, the last time before that which the server has answered."""
        for flights in self._flights.values():
            for flight in flights.values():
                if flight.n_sent >= REFUSED_AFTER and flight.sent < answered and not flight.is_refused:
                    self._count(flight, -1)
                    flight.is_refused = True

    def _hurry(self, epoch: str, answered: float) -> None:
        """Have what was sent before that which the server has answered sent again soon: it is lost, or with a worker that is."""
        for sequence, flight in self._flights[epoch].items():
            due = flight.sent + _jittered(RECONNECT_SECONDS) * 2 ** min(flight.n_sent - 1, 10)
            if flight.sent < answered and due < flight.due and not flight.is_refused:
                flight.due = due
                heapq.heappush(self._due, (due, epoch, sequence))

    def _count(self, flight: _Flight, n: int) -> None:
        if not flight.is_refused:
            self._n_flights += n
            self._n_late += n * flight.is_late

    def _follow(self) -> None:
        """Begin anew with the spool's order, where it did."""
        if self._turn == self._spool.turn:
            return
        self._turn = self._spool.turn
        self._passed, self._has_backlog = 0, True
        self._fresh.clear()
        self._backlog.clear()

    def _again(self) -> Parcel | None:
        """Return the flight that is overdue longest."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            due, epoch, sequence = self._due[0]  # it stays there until it is sent: the transport may fail
            if self._is_current(due, epoch, sequence):
                with self._storing:
                    parcel = self._spool.find(epoch, sequence)
                if parcel is not None:
                    return parcel
                self._lose(epoch, sequence)
            heapq.heappop(self._due)
        return None

    def _is_current(self, due: float, epoch: str, sequence: int) -> bool:
        """Tell whether that is when the flight is due; not where it was sent again or acknowledged."""
        flight = self._flights.get(epoch, {}).get(sequence)
        return flight is not None and flight.due == due

    def _lose(self, epoch: str, sequence: int) -> None:
        """Forget a flight whose batch was dropped."""
        self._count(self._flights[epoch].pop(sequence), -1)

    def _from_before(self) -> Parcel | None:
        """Return the oldest that was not sent yet, where the window lets it through."""
        while self._has_backlog and self._is_open():
            if not self._backlog:
                with self._storing:
                    self._backlog += self._spool.after(self._passed, _ROWS)
                self._has_backlog = bool(self._backlog)
            while self._backlog and self._is_flying(self._backlog[0].parcel):
                self._passed = self._backlog.popleft().id
            if self._backlog:
                return self._backlog[0].parcel
        return None

    def _is_open(self) -> bool:
        is_within = self._n_late < self._window and self._n_flights < self._most
        return is_within or self._clock() >= self._began_last + 2 * PROBE_SECONDS

    def _is_flying(self, parcel: Parcel) -> bool:
        return parcel.sequence in self._flights.get(parcel.epoch, {})

    def _build_heap(self) -> None:
        self._due = [
            (flight.due, epoch, sequence)
            for epoch, flights in self._flights.items()
            for sequence, flight in flights.items()
        ]
        heapq.heapify(self._due)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 2.0)  # noqa: S311 — jitter


def _holds(ranges: Sequence[tuple[int, int]], sequence: int) -> bool:
    place = bisect_right(ranges, sequence, key=lambda each: each[0])  # they ascend
    return place > 0 and sequence <= ranges[place - 1][1]
