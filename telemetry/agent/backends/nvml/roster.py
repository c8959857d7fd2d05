"""Which boards and MIG instances are known in a session. Made by backend.py at `open`, brought up to date by its listing.

A board that was known stays known: one that is not listed any more fell off the bus. An instance that is not listed any
more was taken apart, and is forgotten.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.board import Board, Xids
from telemetry.agent.backends.nvml.device import NvmlSource
from telemetry.agent.backends.nvml.identity import Listed, Listing
from telemetry.agent.backends.nvml.mig import Instance
from telemetry.agent.backends.nvml.session import Session
from telemetry.message.wire import DeviceInfo

_log = logging.getLogger(__name__)


class Roster:
    """The sources of one session."""

    def __init__(
        self,
        listing: Listing,
        session: Session,
        clock: Callable[[], float],
        xids: Xids,
        known: Iterable[DeviceInfo],
        kept_seconds: float,
    ) -> None:
        self.handles: dict[str, Any] = {}  # of the boards that are listed now, by UUID
        self.boards: dict[str, Board] = {}
        self._instances: dict[str, dict[str, Instance]] = {}  # by board
        self._listing = listing
        self._session = session
        self._clock = clock
        self._xids = xids
        self._kept_seconds = kept_seconds
        for info in known:
            self._add(Listed(info, None))

    def update(self) -> bool:
        """List everything again; return whether a board came that was not listed. Raises NVMLError."""
        listed = {board.info.uuid: board for board in self._listing.boards()}
        for uuid, board in self.boards.items():
            if uuid not in listed:
                board.forget_handle()
        for uuid, one in listed.items():
            if uuid in self.boards:
                self.boards[uuid].meet(one)
            else:
                self._add(one)
            if self.boards[uuid].gone is None and one.is_mig is not None:
                self._follow_instances(one)
        came = listed.keys() - self.handles.keys()
        self.handles = {uuid: one.handle for uuid, one in listed.items()}
        return bool(came)

    def sources(self) -> Iterator[NvmlSource]:
        """Yield each board, and after it its instances."""
        for uuid, board in self.boards.items():
            yield board
            yield from self._instances[uuid].values()

    def _add(self, one: Listed) -> None:
        self.boards[one.info.uuid] = Board(one, self._session, self._clock, self._xids, self._kept_seconds)
        self._instances[one.info.uuid] = {}

    def _follow_instances(self, one: Listed) -> None:
        known = self._instances[one.info.uuid]
        try:
            listed = {i.info.uuid: i for i in self._listing.instances(one)} if one.is_mig else {}
        except pynvml.NVMLError as error:
            _log.warning("NVIDIA device %s does not list its MIG instances: %s", one.info.uuid, error)
            return
        for uuid in known.keys() - listed.keys():
            known.pop(uuid).retire()
        for uuid, instance in listed.items():
            if uuid in known:
                known[uuid].meet(instance)
            else:
                known[uuid] = Instance(instance, self._session, self._clock, self.boards[one.info.uuid])
