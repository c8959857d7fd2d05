"""Who sent a message: the door that every message from a host passes. Called by the Celery tasks of telemetry and training.

A message is believed only where the key signed it with which the host joined. What is refused becomes an event.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from fleet.inventory import events
from fleet.models import EventKind, Host, Origin
from telemetry.message import envelope
from telemetry.message.envelope import Envelope, SignatureInvalid
from telemetry.message.wire import MessageInvalid

logger = logging.getLogger(__name__)

OLD_KEY_LIFETIME = timedelta(days=7)  # what a broker may hold of a key that was replaced; raw data lives no longer
# Others are asked for where a device is claimed.
_FIELDS = ("name", "machine", "public_key", "earlier_keys", "key_used_at")


def admit(payload: bytes, task: str, now: datetime) -> tuple[Host, bytes]:
    """Return the enrolled host that sent the message to `task`, and its verified body. Raises MessageInvalid."""
    letter = envelope.read(payload)
    return _admitted(letter, _senders([letter]).get(letter.host), task, now)


def admit_all(payloads: Sequence[bytes], task: str, now: datetime) -> list[tuple[Host, bytes]]:
    """Return the same of each message that is admitted, in their order, with one query; the others are logged."""
    letters: list[Envelope] = []
    admitted: list[tuple[Host, bytes]] = []
    for payload in payloads:
        try:
            letters.append(envelope.read(payload))
        except MessageInvalid as error:
            logger.warning("a message to %s was refused: %s", task, error)
    senders = _senders(letters)
    for letter in letters:
        try:
            admitted.append(_admitted(letter, senders.get(letter.host), task, now))
        except MessageInvalid as error:
            logger.warning("a message to %s was refused: %s", task, error)
    return admitted


def _senders(letters: Sequence[Envelope]) -> dict[str, Host]:
    """Return by name the enrolled hosts; their software and topology, which may be long, only when asked for."""
    found = Host.objects.filter(name__in={letter.host for letter in letters}).exclude(origin=Origin.IMPORTED)
    return {host.name: host for host in found.only(*_FIELDS)}


def _admitted(letter: Envelope, host: Host | None, task: str, now: datetime) -> tuple[Host, bytes]:
    if host is None or not host.public_key:
        text = f"a message under the name {letter.host}, which is not enrolled, was refused"
        events.record(EventKind.FOREIGN_MESSAGE, now, text, host=host, detail={"task": task, "host": letter.host})
        raise MessageInvalid(f"host: {letter.host} is not enrolled; add it with `manage.py add_host {letter.host}`")
    try:
        return host, _verified(letter, task, host, now)
    except SignatureInvalid as error:
        text = f"a message under the name {host.name} with a wrong signature was refused"
        events.record(EventKind.FORGED_MESSAGE, now, text, host=host, detail={"task": task})
        raise MessageInvalid(str(error)) from error


def _verified(letter: Envelope, task: str, host: Host, now: datetime) -> bytes:
    """Return the body. Raises SignatureInvalid."""
    try:
        body = letter.verify(task, bytes(host.public_key))
    except SignatureInvalid as refusal:
        for key in _believed_keys(host, now):
            with suppress(SignatureInvalid):
                return letter.verify(task, key)
        raise refusal from None
    if host.earlier_keys and host.key_used_at is None:
        rotated_here = Host.objects.filter(pk=host.pk, public_key=host.public_key, key_used_at=None)
        rotated_here.update(key_used_at=now)
    return body


def _believed_keys(host: Host, now: datetime) -> list[bytes]:
    """Return the earlier keys that may have signed what comes now.

    The newest of them is believed until its agent was heard under the present key, however long that takes: an agent that
    never learned that its rotation had succeeded would else be locked out. An agent has the one key once it signed its
    successor's rotation with it.
    """
    last_used = host.key_used_at
    believed = []
    for earlier in host.earlier_keys:
        if last_used is None or now - last_used <= OLD_KEY_LIFETIME:
            believed.append(bytes.fromhex(earlier["key"]))
        last_used = datetime.fromtimestamp(earlier["replaced_ms"] / 1000, UTC)
    return believed
