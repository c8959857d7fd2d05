"""Who belongs to the fleet: one-time tokens, joining, key rotation. Called by the join API, pages and commands.

Of a token only the digest is stored. What an agent was refused becomes an event; every change stands in the audit log.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import IntegrityError, transaction

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.inventory import events
from fleet.models import HOST_NAME_PATTERN, EnrolmentToken, EventKind, Host, Origin

TOKEN_PREFIX = "swj_"  # noqa: S105 — not a secret: it lets scanners find tokens that were committed by mistake
TOKEN_LIFETIME = timedelta(hours=24)
ROTATION_CLOCK_MS = 5 * 60_000  # so far may an agent's clock be off when it rotates its key
EARLIER_KEYS = 3  # as many rotations may a message outlast that waits in the broker
ROTATE_CONTEXT = b"stepwatt rotate 1\0"
_RESERVED = {"add"}  # /hosts/add/ is a page
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{0,63}")


class HostRefused(Exception):
    """No host was added; `field` (name, cluster or labels) is at fault, and the message says what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class JoinRefused(Exception):
    """An agent was not let in. `host` is the one that it spoke of, where that is known."""

    def __init__(
        self, message: str, host: Host | None = None, *, kind: EventKind = EventKind.JOIN_REFUSED, other: str = ""
    ) -> None:
        super().__init__(message)
        self.host, self.kind, self.other = host, kind, other


class ClockRefused(JoinRefused):
    """The agent is whom it says, but its clock is off: it may ask again once that is set."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an agent tells of itself: its raw Ed25519 key, and a digest of its machine's id (32 hex digits)."""

    public_key: bytes
    machine: str
    address: str | None = None
    agent_version: str = ""


def add_host(
    name: str, cluster: str | None, labels: Mapping[str, str] | None, actor: Actor, now: datetime
) -> tuple[Host, str]:
    """Return the host and the one-time token with which its agent joins: the only time that it can be seen.

    A host that exists gets a new token, for a machine that was set up anew; None leaves its cluster or labels as they are,
    and its earlier tokens are void. Raises HostRefused.
    """
    changes = _checked(name, cluster, labels)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        host, is_new = Host.objects.get_or_create(name=name, defaults=changes)
        if host.origin != Origin.REAL:
            raise HostRefused("name", f"{name} is {host.get_origin_display()}: no machine can join under its name")
        if not is_new and changes:
            Host.objects.filter(pk=host.pk).update(**changes)
            host.refresh_from_db()
        EnrolmentToken.objects.filter(host=host, used_at=None).delete()
        EnrolmentToken.objects.create(host=host, digest=_digest(token), created_at=now, expires_at=now + TOKEN_LIFETIME)
        detail = {"cluster": host.cluster, "labels": host.labels, "is_new": is_new}
        audit.record(actor.name, "host.add", name, detail, actor.address)
    return host, token


def join(token: str, identity: Identity, now: datetime) -> Host:
    """Let the agent in as the host that the token stands for; it is that host from now on. Raises JoinRefused.

    A join that is repeated, as its answer was lost, is answered again while the token would still hold.
    """
    try:
        with transaction.atomic():
            return _join(token, identity, now)
    except JoinRefused as refusal:
        _tell(refusal, identity, now)
        raise


def rotate(name: str, identity: Identity, at_ms: int, signature: bytes, now: datetime) -> Host:
    """Put a new key in the place of the host's own, which must have signed it (`rotation_text`). Raises JoinRefused.

    A rotation that is repeated, as its answer was lost, is answered again: its signature is that of the key before.
    """
    try:
        with transaction.atomic():
            return _rotate(name, identity, at_ms, signature, now)
    except JoinRefused as refusal:
        _tell(refusal, identity, now)
        raise


def enrol_own(name: str, identity: Identity, actor: Actor, now: datetime) -> None:
    """Enrol the agent of the server's own machine, which needs no token. Raises HostRefused; twice changes nothing.

    A host that joined from another machine keeps its name and its key.
    """
    with transaction.atomic():
        host, _ = Host.objects.get_or_create(name=name)
        if host.origin != Origin.REAL:
            raise HostRefused("name", f"{name} is {host.get_origin_display()}: no machine can join under its name")
        if bytes(host.public_key) == identity.public_key:
            return
        if host.public_key and host.machine != identity.machine:
            raise HostRefused("name", f"{name} is the name of a host that joined from another machine")
        try:
            _let_in(host, identity, actor, now)
        except JoinRefused as refusal:
            raise HostRefused("name", str(refusal)) from refusal


def rotation_text(name: str, public_key: bytes, at_ms: int) -> bytes:
    """Return what the old key signs."""
    return ROTATE_CONTEXT + name.encode() + b"\0" + public_key + b"\0" + str(at_ms).encode()


def _join(token: str, identity: Identity, now: datetime) -> Host:
    found = EnrolmentToken.objects.select_for_update().select_related("host").filter(digest=_digest(token)).first()
    if found is None:
        raise JoinRefused("this token is unknown: a newer one may have been made, or its host was removed")
    host = found.host
    if found.expires_at <= now:
        raise JoinRefused(f"the token for {host.name} has expired; make a new one with add_host", host)
    if found.used_at is not None and bytes(host.public_key) == identity.public_key:
        return host
    taken = EnrolmentToken.objects.filter(pk=found.pk, used_at=None).update(used_at=now)
    if not taken:
        raise JoinRefused(f"the token for {host.name} was used before; make a new one with add_host", host)
    _let_in(host, identity, Actor(f"agent:{host.name}", identity.address), now)
    return host


def _let_in(host: Host, identity: Identity, actor: Actor, now: datetime) -> None:
    fields = {"machine": identity.machine, "joined_at": now, "earlier_keys": [], "key_used_at": None}
    was_member = bool(host.public_key)
    _take_key(host, identity, fields)
    again = " again, with a new key: its agent of before is no longer believed" if was_member else ""
    events.record(
        EventKind.HOST_JOINED, now, f"{host.name} joined{again}", host=host,
        detail={"agent_version": identity.agent_version, "address": identity.address},
    )  # fmt: skip
    detail = {"machine": identity.machine, "agent_version": identity.agent_version, "is_again": was_member}
    audit.record(actor.name, "host.join", host.name, detail, actor.address)
    _look_for_clones(host, now)


def _rotate(name: str, identity: Identity, at_ms: int, signature: bytes, now: datetime) -> Host:
    host = Host.objects.select_for_update().filter(name=name, origin=Origin.REAL).first()
    if host is None or not host.public_key:
        raise JoinRefused(f"a key rotation for {name[:63]}, which is not enrolled, was refused")
    present = bytes(host.public_key)
    is_repeated = present == identity.public_key
    signers = [bytes.fromhex(earlier["key"]) for earlier in host.earlier_keys[:1]] if is_repeated else [present]
    text = rotation_text(name, identity.public_key, at_ms)
    if not any(_has_signed(key, signature, text) for key in signers):
        raise JoinRefused(f"a key rotation for {host.name} is not signed by its present key", host)
    if abs(at_ms - now.timestamp() * 1000) > ROTATION_CLOCK_MS:
        raise ClockRefused(f"{host.name} asks for a new key with a clock that is more than 5 minutes off", host)
    if is_repeated:
        return host
    earlier = [{"key": present.hex(), "replaced_ms": int(now.timestamp() * 1000)}, *host.earlier_keys][:EARLIER_KEYS]
    _take_key(host, identity, {"machine": identity.machine, "earlier_keys": earlier, "key_used_at": None})
    events.record(EventKind.KEY_ROTATED, now, f"{host.name} has a new key", host=host)
    audit.record(f"agent:{host.name}", "host.rotate_key", host.name, {"machine": identity.machine}, identity.address)
    _look_for_clones(host, now)
    return host


def _take_key(host: Host, identity: Identity, fields: Mapping[str, object]) -> None:
    """Store the key; a key stands for one host only. Raises JoinRefused."""
    try:
        with transaction.atomic():
            Host.objects.filter(pk=host.pk).update(public_key=identity.public_key, **fields)
    except IntegrityError as error:
        other = Host.objects.get(origin=Origin.REAL, public_key=identity.public_key).name
        message = (
            f"{host.name} brings the key of {other}: remove the agent's directory on the machine that was copied, "
            "and join again"
        )
        raise JoinRefused(message, host, kind=EventKind.CLONED_KEY, other=other) from error
    host.refresh_from_db()


def _look_for_clones(host: Host, now: datetime) -> None:
    """Tell of other hosts that live with this one's machine id: images copied with their /etc/machine-id."""
    same = Host.objects.filter(machine=host.machine, origin=Origin.REAL).exclude(pk=host.pk).exclude(public_key=b"")
    for other in same:
        has_spoken = other.heard_at is not None and (other.joined_at is None or other.heard_at >= other.joined_at)
        if not has_spoken or not other.is_silent(now):
            text = f"{host.name} and {other.name} have one machine id: give each its own /etc/machine-id"
            events.record(EventKind.CLONED_MACHINE, now, text, host=host, detail={"hosts": [host.name, other.name]})


def _tell(refusal: JoinRefused, identity: Identity, now: datetime) -> None:
    detail = {"address": identity.address, **({"other": refusal.other} if refusal.other else {})}
    events.record(refusal.kind, now, str(refusal), host=refusal.host, detail=detail)


def _has_signed(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _checked(name: str, cluster: str | None, labels: Mapping[str, str] | None) -> dict[str, object]:
    """Return the fields to store. Raises HostRefused."""
    if not re.fullmatch(HOST_NAME_PATTERN, name) or name in _RESERVED:
        expected = "letters, digits, dot, dash or underscore, at most 63, a letter or digit first"
        raise HostRefused("name", f"{name!r} cannot be a host's name: expected {expected}, and not `add`")
    if cluster is not None and not _TEXT.fullmatch(cluster):
        raise HostRefused("cluster", "expected at most 63 printable characters")
    for key, value in (labels or {}).items():
        if not _LABEL_KEY.fullmatch(key) or not _TEXT.fullmatch(value):
            raise HostRefused("labels", f"{key}={value}: expected a short key of letters and digits, and a short value")
    given = {"cluster": cluster, "labels": None if labels is None else dict(labels)}
    return {field: value for field, value in given.items() if value is not None}


def _digest(token: str) -> str:
    """A token holds 256 random bits, so that one round of sha256 is enough."""
    return sha256(token.encode()).hexdigest()
