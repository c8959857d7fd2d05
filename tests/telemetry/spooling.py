"""What the tests of spool and outbox share: a clock, spools over one directory, batches to keep, and files that fail."""

import ctypes
import sqlite3
from contextlib import contextmanager

from telemetry.agent.names import Parcel
from telemetry.agent.spool import Spool
from telemetry.agent.spool_file import SpoolFailed, SpoolFile
from telemetry.decoding import received
from telemetry.message import wire
from tests.telemetry.batches import batch

HOST, MACHINE = "gpu-a01", "a" * 32


class Clock:
    """`now` goes on with the time; `set_by` is what somebody set the wall clock by."""

    def __init__(self):
        self.now, self.set_by = 1_800_000_000.0, 0.0

    def __call__(self):
        return self.now + self.set_by

    def steady(self):
        return self.now


@contextmanager
def opened_in(directory, clock):
    """Yield a maker of spools over the same directory."""
    made = []

    def make(**options):
        made.append(Spool(directory, clock=clock, steady=clock.steady, **options))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def parcel(names, at_ms=1000, body=None):
    epoch, sequence = names.claim()
    body = body or wire.pack(batch([at_ms], {"power_draw_watts": [300.0]}, host=HOST, epoch=epoch, sequence=sequence))
    return Parcel(HOST, epoch, sequence, body)


def named(parcel):
    """The name that stands in the bytes, and when the batch was sampled."""
    found = received.unpack(parcel.body)
    assert (found.epoch, found.sequence) == (parcel.epoch, parcel.sequence)
    return found.epoch, found.sequence, found.times_ms[0]


def waiting(spool):
    return [each.parcel for each in spool.after(0, 10_000)]


def used_bytes():
    """Return what the process has of the C library's heap (mallinfo2(3): ten sizes, the eighth is what is in use)."""
    sizes = type("Sizes", (ctypes.Structure,), {"_fields_": [("sizes", ctypes.c_size_t * 10)]})
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = sizes
    return ask().sizes[7]


def broken(monkeypatch, code, times=10**9, call="add"):
    """Have the file's next calls fail; returns what mends it. The store in memory is none of it."""
    left = [times]
    well = getattr(SpoolFile, call)

    def failing(self, *arguments):
        if left[0] > 0 and not is_memory(self):
            left[0] -= 1
            error = sqlite3.OperationalError("made by the test")
            error.sqlite_errorcode = code
            raise SpoolFailed(error)
        return well(self, *arguments)

    def is_memory(file):
        try:
            return not file._db.execute("PRAGMA database_list").fetchone()[2]
        except sqlite3.ProgrammingError:  # closed: it was the file
            return False

    monkeypatch.setattr(SpoolFile, call, failing)

    def mend():
        left[0] = 0

    return mend
