"""NVIDIA devices through the official bindings: takes the driver up, knows its devices, and follows what changes.

Called by the sampler on a thread of its own, since a wedged driver call does not return. Only this package imports pynvml;
importing it needs no driver. Imports no Django and no torch.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pynvml

from telemetry.agent.backends.nvml.device import NvmlSource
from telemetry.agent.backends.nvml.errors import is_driver_away
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.agent.backends.nvml.identity import Listing
from telemetry.agent.backends.nvml.roster import Roster
from telemetry.agent.backends.nvml.rounds import NvmlRounds
from telemetry.agent.backends.nvml.session import Session
from telemetry.agent.backends.nvml.software import driver_software
from telemetry.agent.backends.nvml.topology import read_topology
from telemetry.agent.backends.pace import KEPT_SECONDS
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.message.wire import DeviceEvent, DeviceInfo, Topology

_log = logging.getLogger(__name__)

_RELIST_SECONDS = 30.0
# The boards that the kernel knows, a directory each. A driver that is open does not list a board that came later.
_KERNEL_BOARDS = Path("/proc/driver/nvidia/gpus")


class NvmlBackend:
    """Reads every NVIDIA device that the driver lists; a board that was known stays known, also across `open`."""

    name = "nvml"
    releasable = True

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        kernel_boards: Path = _KERNEL_BOARDS,
        listener: EventListener | None = None,
        *,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._clock = clock
        self._kernel_boards = kernel_boards
        self._kept_seconds = kept_seconds
        self._listing = Listing()
        self._listener = listener or EventListener()
        self._session: Session | None = None
        self._roster: Roster | None = None
        self._known: list[DeviceInfo] = []
        self._sources: tuple[NvmlSource, ...] = ()
        self.rounds = NvmlRounds()
        self._software: dict[str, str] = {}
        self._topology: Topology | None = None
        self._listed_at = 0.0
        self._kernel_names: frozenset[str] = frozenset()

    def open(self) -> None:
        self.close()
        self._session = session = Session()
        self._roster = Roster(self._listing, session, self._clock, self._listener, self._known, self._kept_seconds)
        try:
            self._software = driver_software()
            self._kernel_names = self._names_of_kernel_boards()
            self._list(session, self._roster)
        except pynvml.NVMLError as error:
            self.close()
            raise BackendUnavailable(f"the NVIDIA driver does not list its devices: {error}") from error
        if not self._sources:
            self.close()
            raise BackendUnavailable("the NVIDIA driver has no device that the agent may see")

    def sources(self) -> Sequence[NvmlSource]:
        session, roster = self._session, self._roster
        if session is None or roster is None:
            return []
        if session.is_broken:
            self._reopen("the NVIDIA driver was unloaded")
        elif (session.is_changed or self._clock() - self._listed_at >= _RELIST_SECONDS) and not session.is_busy:
            # While a call hangs on one board the listing may hang as well: it waits until the call is back.
            session.is_changed = False
            self._look_around(session, roster)
        return self._sources

    def has_news(self) -> bool:
        session = self._session
        return (
            session is None
            or session.is_broken
            or session.is_changed
            or self._clock() - self._listed_at >= _RELIST_SECONDS
            or self._listener.has_news
        )

    def topology(self) -> Topology | None:
        return self._topology

    def take_events(self) -> list[DeviceEvent]:
        return self._listener.take()

    def software(self) -> Mapping[str, str]:
        if self._roster is not None and any(board.memory_call_is_old for board in self._roster.boards.values()):
            return self._software | {"nvml_memory": "v1: used includes what the driver reserves"}
        return dict(self._software)

    def close(self) -> None:
        session, self._session, self._roster = self._session, None, None
        self.rounds.forget()
        if session is None:
            return
        if self._listener.stop():
            session.close()
        else:
            session.abandon()

    def _look_around(self, session: Session, roster: Roster) -> None:
        if self._names_of_kernel_boards() != self._kernel_names:
            self._reopen("the boards of this machine have changed, which an open NVIDIA driver does not show")
            return
        try:
            self._list(session, roster)
        except pynvml.NVMLError as error:
            session.is_broken = is_driver_away(error.value)
            _log.warning("the NVIDIA driver does not list its devices: %s", error)

    def _list(self, session: Session, roster: Roster) -> None:
        """Bring the sources up to date, unless the driver is being let go of. Raises NVMLError."""
        self._listed_at = self._clock()
        if not session.enter():
            return
        try:
            if roster.update():
                self._topology = read_topology(roster.handles)
                self._listener.start(roster.handles)
        finally:
            session.leave()
        self._sources = tuple(roster.sources())
        self.rounds.follow(session, self._sources)
        self._known = [board.device for board in roster.boards.values()]

    def _reopen(self, why: str) -> None:
        _log.info("%s: it is opened again", why)
        self.close()
        self.open()

    def _names_of_kernel_boards(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in self._kernel_boards.iterdir())
        except OSError:  # in a container the driver's part of /proc may be hidden
            return frozenset()
