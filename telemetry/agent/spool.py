"""The spool: what was made and is not acknowledged yet, on the disk, bounded, and in memory where the disk fails.

Called by the outbox. A file that is damaged is put aside and another begun; where none can be written (disk full), batches
wait in memory under an epoch of their own, and move to the disk once there is room. Either is said once, and published.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from telemetry.agent.names import Names, Parcel
from telemetry.agent.spool_file import MEMORY, Kept, Ranges, SpoolFailed, SpoolFile
from telemetry.agent.ticks import boot_seconds
from telemetry.message.wire import renamed

logger = logging.getLogger(__name__)

FILE, ASIDE = "spool.db", "spool.db.damaged"
LIMIT_BYTES, LIMIT_SECONDS = 512 * 2**20, 7 * 86_400.0
MEMORY_BYTES = 16 * 2**20
HEAL_SECONDS = 5.0  # what waits in memory is lost with the process
TEND_SECONDS = 60.0
STEP_SECONDS = 60.0  # a wall clock that gains or loses more at once was set; what is less does not matter to an age
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DROP_SHARE = 0.01  # of the bound: making room takes a look at the oldest, which is not worth its while for each batch


Answer = TypeVar("Answer")


class Spool:
    """`directory` is the agent's. Nothing of it raises; not to be called from two threads at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        limit_bytes: int = LIMIT_BYTES,
        limit_seconds: float = LIMIT_SECONDS,
        boot: str | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        """`clock` gives UTC seconds, `steady` seconds that nobody sets and that run on through suspend.

        `boot` tells the machine's starts apart, and is the kernel's own where it is None.
        """
        self._path, self._clock, self._steady = directory / FILE, clock, steady
        self._offset = clock() - steady()
        self._unshifted_ms = 0  # by so much the clock was set while the file could not be written
        self._boot = _BOOT_ID.read_text().strip() if boot is None else boot
        self._is_synced = False
        self._limit_bytes, self._limit_seconds = limit_bytes, limit_seconds
        self._names: dict[str, Names] = {}
        self._by_epoch: dict[str, Names] = {}  # of what is named now
        self._machines: dict[str, str] = {}
        self._store, self.is_failed = SpoolFile(MEMORY), True
        self._tended = self._tried = steady()
        self.n_dropped = 0
        self.turn = 0  # counts up where the order of `after` begins anew
        self._heal()

    def close(self) -> None:
        self._store.close()

    def names(self, host: str, machine: str) -> Names:
        """Return how the host's batches are named from now on; `machine` tells machines apart."""
        self._machines[host] = machine
        try:
            names = self._store.names(host, machine)
        except SpoolFailed as failure:
            names = self._names[host] = Names(uuid4().hex, host=host)
            self._fall_back(failure)
        self._names[host] = self._by_epoch[names.epoch] = names
        return names

    @property
    def n_batches(self) -> int:
        return self._store.n_batches

    @property
    def n_bytes(self) -> int:
        """Return what waits takes on the disk, or in memory."""
        return self._store.n_bytes

    def sync(self, *, is_wanted: bool) -> None:
        """Have what is added survive a power cut too: wanted where nobody else has it soon."""
        if is_wanted is not self._is_synced:
            self._is_synced = is_wanted
            self._trying(lambda: self._store.sync(is_wanted=is_wanted))

    def add(self, parcels: Sequence[Parcel]) -> list[Kept]:
        """Keep them, renamed where their epoch is over; they may be sent from now on."""
        made_ms = int(self._now() * 1000)
        kept = self._trying(lambda: self._store.add([self._current(each) for each in parcels], self._names, made_ms))
        self._make_room()
        return kept or []

    def remove(self, epoch: str, ranges: Ranges) -> int:
        """Remove what the server has; returns how many batches that were."""
        return self._trying(lambda: self._store.remove(epoch, ranges)) or 0

    def after(self, number: int, most: int) -> list[Kept]:
        return self._trying(lambda: self._store.after(number, most)) or []

    def find(self, epoch: str, sequence: int) -> Parcel | None:
        return self._trying(lambda: self._store.find(epoch, sequence))

    def has_given(self, epoch: str, sequence: int) -> bool:
        """Tell whether that name was claimed here; of an epoch of before, that is not known, and it was."""
        names = self._by_epoch.get(epoch)
        return names is None or names.has_given(epoch, sequence)

    def begin_again(self, epoch: str) -> None:
        """Begin another epoch in the place of this one; what waits is renamed."""
        names = self._by_epoch[epoch]
        logger.warning(
            "the server has batches of an epoch beyond its last: this machine's disk is an older copy, and another begins"
        )
        self._rename(names)
        self._trying(lambda: self._store.begin(names, self._machines[names.host], renaming=epoch))
        self.turn += 1

    def tend(self) -> None:
        """Drop what is too old, and go back to the disk where that is possible again. To be called now and then."""
        now, steady = self._now(), self._steady()
        if steady - self._tended >= TEND_SECONDS:
            self._tended = steady
            too_old_ms = int((now - self._limit_seconds) * 1000)
            self._note_dropped(self._trying(lambda: self._store.drop_before(too_old_ms)) or 0, "age")
            # Not the method itself: a failure puts another store in this one's place.
            self._trying(lambda: self._store.forget_pages())  # noqa: PLW0108
        if self.is_failed and steady - self._tried >= HEAL_SECONDS:
            self._heal()

    def _now(self) -> float:
        """Return the wall clock's time. Where that was set since the last time, what waits is as old after it as before."""
        now, before = self._clock(), self._offset
        self._offset = now - self._steady()
        step = self._offset - before
        if abs(step) > STEP_SECONDS:
            logger.warning("the wall clock was set by %.0f s: what waits in the spool keeps its age", step)
            step_ms = round(step * 1000)
            self._trying(lambda: self._store.shift(step_ms, int(now * 1000)))
            if self.is_failed:
                self._unshifted_ms += step_ms
        return now

    def _rename(self, names: Names) -> None:
        self._by_epoch.pop(names.epoch, None)
        names.begin(uuid4().hex)
        self._by_epoch[names.epoch] = names

    def _current(self, parcel: Parcel) -> Parcel:
        names = self._names[parcel.host]
        if parcel.epoch == names.epoch:
            return parcel
        epoch, sequence = names.claim()
        return Parcel(parcel.host, epoch, sequence, renamed(parcel.body, epoch, sequence))

    def _trying(self, act: Callable[[], Answer]) -> Answer | None:
        """Return the store's answer; of memory's, where the file fails, which knows nothing of the file."""
        try:
            return act()
        except SpoolFailed as failure:
            self._fall_back(failure)
        try:
            return act()
        except SpoolFailed as failure:
            logger.warning("the spool in memory fails: %s", failure)
            return None

    def _make_room(self) -> None:
        limit = MEMORY_BYTES if self.is_failed else self._limit_bytes
        while self.n_batches > 1 and self.n_bytes > limit:
            wanted = self.n_bytes - limit + int(limit * _DROP_SHARE)
            dropped = self._trying(lambda n=wanted: self._store.drop_oldest(n))  # type: ignore[misc]
            if not dropped:
                return
            self._note_dropped(dropped, "size")

    def _note_dropped(self, n: int, bound: str) -> None:
        if n and not self.n_dropped:
            logger.warning("the spool's bound in %s is reached: the oldest batches are dropped and counted", bound)
        self.n_dropped += n

    def _fall_back(self, failure: SpoolFailed) -> None:
        """Go on in another store: a new file where the present one is damaged, else memory."""
        if self.is_failed:
            return
        logger.error(
            "%s: %s; batches wait %s", self._path, failure, "in a new file" if failure.is_damaged else "in memory"
        )
        if failure.is_damaged:
            self.n_dropped += self._store.n_batches
        self._store.close()
        if failure.is_damaged:
            _put_aside(self._path)
        self._store, self.is_failed = SpoolFile(MEMORY), True
        for host, names in self._names.items():
            self._rename(names)
            self._store.begin(names, self._machines[host])
        self.turn += 1
        if failure.is_damaged:
            self._heal()

    def _heal(self) -> None:
        """Go back to the disk, and take along what waits in memory."""
        self._tried = self._steady()
        try:
            file = self._open()
            self._move(file)
        except SpoolFailed as failure:
            if self._store.n_batches == 0 and not self._names:  # at the start; later `_fall_back` has said it
                logger.warning("%s: %s; batches wait in memory", self._path, failure)
            return
        if self._names:
            logger.info("%s: the spool is on the disk again", self._path)
        self._store.close()
        self._store, self.is_failed = file, False
        self._is_synced = False
        self.turn += 1

    def _open(self) -> SpoolFile:
        try:
            return SpoolFile(self._path, boot=self._boot)
        except SpoolFailed as failure:
            if not failure.is_damaged:
                raise
            logger.warning("%s is damaged (%s): it is put aside as %s", self._path, failure, ASIDE)
            _put_aside(self._path)
            return SpoolFile(self._path, boot=self._boot)

    def _move(self, file: SpoolFile) -> None:
        try:
            for host, names in self._names.items():
                file.begin(names, self._machines[host])
            if self._unshifted_ms:
                file.shift(self._unshifted_ms, int(self._clock() * 1000))
                self._unshifted_ms = 0
            made_ms, last = int(self._clock() * 1000), 0
            while kept := self._store.after(last, 100):
                file.add([each.parcel for each in kept], self._names, made_ms)
                last = kept[-1].id
        except SpoolFailed:
            file.close()
            raise


def _put_aside(path: Path) -> None:
    """Rename the file; one that was put aside before gives way, since a disk is not to fill up with them."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(ASIDE))
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
