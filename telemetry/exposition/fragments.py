"""One host's part of the exposition: its lines by family, in either naming, made when its state changes and kept until then.

Called by telemetry/exposition/scrape.py, from one thread. Knows no request, no database and no other host.
"""

from collections.abc import Sequence
from typing import Protocol

from telemetry.exposition import dcgm, own_names
from telemetry.exposition.dcgm import DcgmLines
from telemetry.exposition.own_names import Names, OwnLines
from telemetry.exposition.presence import HostNow
from telemetry.exposition.textformat import Family

Fragments = Sequence[bytes]


class _Lines(Protocol):
    """One naming's way to write a host whose identity and set of metrics stay as they are."""

    def fits(self, now: HostNow) -> bool: ...

    def fragments(self, now: HostNow) -> list[bytes]: ...


_LINES: dict[Names, type[OwnLines] | type[DcgmLines]] = {Names.STEPWATT: OwnLines, Names.DCGM: DcgmLines}


def families(names: Names) -> list[Family]:
    """Return the empty families of a naming, in the order of a host's fragments."""
    return own_names.FAMILIES if names is Names.STEPWATT else dcgm.families()


class HostFragments:
    """What a host tells at present, and the lines that were made of it."""

    def __init__(self, now: HostNow) -> None:
        self._now = now
        self._writers: dict[Names, _Lines] = {}
        self._done: dict[Names, Fragments] = {}

    def tell(self, now: HostNow) -> None:
        """Take a new state; lines are made when they are asked for."""
        if _who(now) != _who(self._now):
            self._writers.clear()
        self._now = now
        self._done.clear()

    def of(self, names: Names) -> Fragments:
        """Return the lines by family, b"" where the host has none."""
        done = self._done.get(names)
        if done is None:
            writer = self._writers.get(names)
            if writer is None or not writer.fits(self._now):
                writer = self._writers[names] = _LINES[names](self._now)
            done = self._done[names] = writer.fragments(self._now)
        return done


def _who(now: HostNow) -> tuple[object, ...]:
    """Return all that labels are made of."""
    return (now.host.name, now.host.cluster, now.host.origin, [device.identity for device in now.devices])
