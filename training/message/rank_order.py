"""The part of a job order that makes the job a rank of a distributed one, and the place where its ranks meet. No Django.

Called by training/message/wire.py, which packs and reads whole messages.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from telemetry.message.wire import MessageInvalid, integer, matching

MAX_RANKS = 1_024  # of one distributed job
_TOKEN = re.compile(r"[A-Za-z0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class RankOrder:
    """Which rank of a distributed job the job is, and where its ranks meet.

    `head` is the number of rank 0's job. Rank 0 has no `address` and no `port`: its agent opens one and reports it as the
    meeting, and the orders of the others carry it. `token` is what the ranks of this launch know each other by.
    """

    head: int
    rank: int
    world_size: int
    token: str
    address: str = ""
    port: int = 0


def read(told: dict[str, Any]) -> RankOrder:
    """Return the ranks' part of an order. Raises MessageInvalid."""
    rank, world_size = integer(told.get("rank"), "rank"), integer(told.get("world_size"), "world_size")
    if not rank < world_size <= MAX_RANKS:
        raise MessageInvalid(f"ranks: rank {rank} of {world_size}, of at most {MAX_RANKS}")
    token = matching(told, "token", _TOKEN)
    head = integer(told.get("head"), "head")
    if rank == 0:
        return RankOrder(head, rank, world_size, token)
    address, port = place(f"{told.get('address')} {told.get('port')}")
    return RankOrder(head, rank, world_size, token, address, port)


def place(meeting: str) -> tuple[str, int]:
    """Return (address, port) of a meeting's text. Raises MessageInvalid."""
    address, _, port = meeting.partition(" ")
    try:
        found = ip_address(address)
        number_of_port = int(port)
    except ValueError as error:
        raise MessageInvalid(f"meeting: expected an address and a port, found {meeting[:80]!r}") from error
    if not 0 < number_of_port < 65_536 or found.is_multicast or found.is_unspecified:
        raise MessageInvalid(f"meeting: {meeting[:80]!r} is no place where a process can listen")
    return str(found), number_of_port
