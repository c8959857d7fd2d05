"""Throttling of sign-in and of joining, by rows in the database, so that it holds across processes.

Called by the login form and the door of POST join.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from django.db import transaction

from fleet.models import JoinAttempt, LoginAttempt

WINDOW = timedelta(minutes=15)
TRIES_PER_NAME = 5  # of one user name from one address
TRIES_PER_ADDRESS = 20  # whatever the names: one address that goes through a list of users
TRIES_PER_NAME_ANYWHERE = 50  # whatever the addresses: many of them that go for one user
FAILED_JOINS_PER_ADDRESS = 20


@dataclass(frozen=True, slots=True)
class Try:
    """One try to sign in. `wait` is set where it must not be made; else `tries_left` follow it should it fail."""

    tries_left: int
    wait: timedelta | None = None

    @property
    def wait_minutes(self) -> int:
        return ceil(self.wait.total_seconds() / 60) if self.wait else 0


def begin(username: str, address: str | None, now: datetime) -> Try:
    """Note a try and tell whether it may be made. A try counts as failed until `succeeded` says otherwise.

    It is written before it is counted: of many tries at the same moment, no more than the limit pass.
    """
    name, place = _key(username), _place(address)
    with transaction.atomic():  # one wait for whoever writes; it ends before the counting
        LoginAttempt.objects.filter(at__lte=now - WINDOW).delete()
        own = LoginAttempt.objects.create(at=now, username=name, address=place)
    at_address = LoginAttempt.objects.filter(address=place).exclude(pk=own.pk).order_by("-at")
    left = []
    of_name = LoginAttempt.objects.filter(username=name).exclude(pk=own.pk).order_by("-at")
    for earlier, limit in (
        (at_address.filter(username=name), TRIES_PER_NAME),
        (at_address, TRIES_PER_ADDRESS),
        (of_name, TRIES_PER_NAME_ANYWHERE),
    ):
        times = list(earlier.values_list("at", flat=True)[:limit])
        if len(times) == limit:
            own.delete()  # a refused try lengthens nobody's wait
            return Try(0, times[-1] + WINDOW - now)
        left.append(limit - len(times) - 1)
    return Try(min(left))


def succeeded(username: str, address: str | None) -> None:
    """Forget this name's tries from this address; those of other names stand."""
    LoginAttempt.objects.filter(address=_place(address), username=_key(username)).delete()


def join_wait(address: str | None, now: datetime) -> timedelta | None:
    """Return how long an address must wait before its next join; None where it may try.

    Only refusals count: a thousand hosts that join from behind one address are welcome.
    """
    refused = JoinAttempt.objects.filter(address=_place(address), at__gt=now - WINDOW).order_by("-at")
    times = list(refused.values_list("at", flat=True)[:FAILED_JOINS_PER_ADDRESS])
    return times[-1] + WINDOW - now if len(times) == FAILED_JOINS_PER_ADDRESS else None


def join_failed(address: str | None, now: datetime) -> None:
    JoinAttempt.objects.filter(at__lte=now - WINDOW).delete()
    JoinAttempt.objects.create(at=now, address=_place(address))


def _key(username: str) -> str:
    """Return one key for what people take for one name; as long as the column."""
    return username.strip().casefold()[:150]


def _place(address: str | None) -> str | None:
    """Return what counts as one address: of IPv6 the network of 64 bits, of which one machine takes any (RFC 8981)."""
    if address is None:
        return None
    found = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False).network_address)
    return address
