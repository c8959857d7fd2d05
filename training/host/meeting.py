"""Where the ranks of a distributed job meet, and by which of a host's interfaces they speak with each other. No Django, no torch.

Rank 0's agent listens before its job's process starts and hands the socket on, so that nobody can take the port in between.
Which address others reach is told by STEPWATT_JOB_ADDRESS (an address or an interface); else it is that of the way to the broker,
or of the way out where the broker is on this machine.
"""

import socket
from dataclasses import dataclass
from ipaddress import ip_address

import psutil

from training.message.rank_order import RankOrder

# Of a range that is nobody's (RFC 5737): which interface leads there is the kernel's to say, and nothing is sent.
_FAR_AWAY = "203.0.113.1"
_BACKLOG = 1_024


class NoMeeting(Exception):
    """This host cannot take part; the text is the reason that people see."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """A rank's place: `listener` is rank 0's open socket, None of the others."""

    address: str
    port: int
    interface: str
    listener: socket.socket | None = None

    @property
    def words(self) -> str:
        """Return what a report says of it, "" for who only comes to it."""
        return f"{self.address} {self.port}" if self.listener else ""

    @property
    def environment(self) -> dict[str, str]:
        """Return what tells gloo and NCCL which interface they are to use: by themselves they go by the host's name."""
        return {"GLOO_SOCKET_IFNAME": self.interface, "NCCL_SOCKET_IFNAME": f"={self.interface}"}

    @property
    def handed(self) -> list[int]:
        return [self.listener.fileno()] if self.listener else []

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()


def prepare(ranks: RankOrder, setting: str, broker_host: str = "") -> Meeting:
    """Return where to go, or a new place to listen for rank 0. Raises NoMeeting."""
    try:
        own = _set_address(setting) if setting else _found_address(ranks.address, broker_host)
        if not own:
            raise NoMeeting(f"no way leads to rank 0 at {ranks.address}; see STEPWATT_JOB_ADDRESS")
        if ranks.rank > 0:
            return Meeting(ranks.address, ranks.port, _interface(own))
        family = socket.AF_INET6 if ip_address(own).version == 6 else socket.AF_INET
        listener = socket.create_server((own, 0), family=family, backlog=_BACKLOG)
        return Meeting(own, listener.getsockname()[1], _interface(own), listener)
    except OSError as error:
        raise NoMeeting(
            f"no place for the ranks to meet could be opened ({error}); see STEPWATT_JOB_ADDRESS"
        ) from error


def _set_address(setting: str) -> str:
    try:
        return str(ip_address(setting))
    except ValueError:
        pass  # no address, so an interface
    for address in psutil.net_if_addrs().get(setting, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    raise NoMeeting(
        f"STEPWATT_JOB_ADDRESS={setting}: this host has no such address and no interface of that name with one"
    )


def _found_address(meeting: str, broker_host: str) -> str:
    """Return this host's address on the way to the meeting; for a new one, an address that other hosts are likely to reach."""
    if meeting:
        return _way_to(meeting)
    ways = [_way_to(host) for host in (broker_host, _FAR_AWAY) if host]
    return next((way for way in ways if way and not ip_address(way).is_loopback), "127.0.0.1")


def _way_to(host: str) -> str:
    """Return this host's own address on the way there, "" where none leads there."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except OSError:  # no such name, or no route: a host without a network, which only itself can reach
        return ""


def _interface(own: str) -> str:
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.partition("%")[0] == own for address in addresses):
            return str(name)
    raise NoMeeting(f"no interface of this host has the address {own}; see STEPWATT_JOB_ADDRESS")
