"""The round of NVIDIA's boards: all of them asked for power in one go.

Made by backend.py with the driver. It stands as long as nothing changes (`Session.n_changes`); where a board is to be
found out about, or answers otherwise than it did, each is read by itself.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain

from telemetry.agent.backends.nvml.answers import Answers
from telemetry.agent.backends.nvml.board import Board
from telemetry.agent.backends.nvml.device import NvmlSource
from telemetry.agent.backends.nvml.session import Session
from telemetry.agent.backends.protocol import Reading
from telemetry.agent.backends.rounds import PowerRound, Turn


class NvmlRounds:
    """`follow` is called with each listing, `forget` when the driver is let go of."""

    def __init__(self) -> None:
        self.power: PowerRound | None = None
        self._session: Session | None = None
        self._boards: tuple[Board, ...] = ()
        self._n_changes = -1

    def follow(self, session: Session, sources: Sequence[NvmlSource]) -> None:
        self._session, self._n_changes, self.power = session, -1, None
        self._boards = tuple([source for source in sources if isinstance(source, Board)])

    def forget(self) -> None:
        self._session, self.power, self._boards = None, None, ()

    def make_power(self) -> PowerRound | None:
        session = self._session
        if session is None:
            return None
        if self._n_changes != session.n_changes:
            self._n_changes = session.n_changes
            self.power = self._made(session)
        return self.power

    def _made(self, session: Session) -> PowerRound | None:
        """Return a round of boards that answer alike, and did so when they were last asked."""
        powers = [board.power for board in self._boards]
        first = powers[0] if powers else None
        usual = first.usual if first else None
        if first is None or usual is None or not usual[1].metrics:
            return None
        turns: list[Turn] = []
        rooms: list[bytearray] = []
        for board, power in zip(self._boards, powers, strict=True):
            if power is None or power.usual != usual or power.status_layout != first.status_layout:
                return None
            turns.append(Turn(board.device.uuid, power.asks))
            rooms += power.rooms
        statuses, own = usual
        return PowerRound(
            gate=session,
            n_changes=self._n_changes,
            turns=turns,
            rooms=rooms,
            statuses=struct.Struct("=" + first.status_layout * len(turns)).unpack,
            usual=statuses * len(turns),
            devices=tuple([board.device for board in self._boards]),
            conversion=_joint(own, len(turns)),
        )


class _JointAnswers:
    """Takes apart what several devices of one layout told, end to end."""

    def __init__(self, own: Answers, n_devices: int) -> None:
        self.metrics, self.divisors = own.metrics, own.divisors
        self._own, self._n_devices = own, n_devices
        self._unpack = struct.Struct("=" + own.layout * n_devices).unpack

    def apart(self, raw: bytes) -> Iterator[Mapping[str, Reading]]:
        each = len(raw) // self._n_devices
        for at in range(0, len(raw), each):
            readings: dict[str, Reading] = {}
            self._own.put((0.0, raw[at : at + each], None), readings)
            yield readings

    def columns(self, raws: Sequence[bytes]) -> Sequence[Sequence[float]] | None:
        numbers = list(zip(*map(self._unpack, raws), strict=True))
        width = len(numbers) // self._n_devices
        return self._own.believed([[*chain.from_iterable(numbers[place::width])] for place in self._own.places])


@cache
def _joint(answers: Answers, n_devices: int) -> _JointAnswers:
    """Return what stays the same over rounds: ticks of two that it understands are one batch's matter."""
    return _JointAnswers(answers, n_devices)
