"""Who sent a message: the door that every message from a host passes. Called by the Celery tasks of telemetry and training.

A message is believed only where the key signed it with which the host joined. What is refused becomes an event.
"""

from datetime import datetime, timedelta

from fleet import events
from fleet.models import EventKind, Host, Origin
from telemetry import envelope
from telemetry.envelope import Envelope, SignatureInvalid
from telemetry.wire import MessageInvalid

OLD_KEY_LIFETIME = timedelta(hours=1)  # what the broker still held when an agent took its new key


def admit(payload: bytes, task: str, now: datetime) -> tuple[Host, bytes]:
    """Return the enrolled host that sent the message to `task`, and its verified body. Raises MessageInvalid."""
    letter = envelope.read(payload)
    host = Host.objects.filter(name=letter.host).exclude(origin=Origin.IMPORTED).first()
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
        return letter.verify(task, bytes(host.public_key))
    except SignatureInvalid:
        if host.rotated_at is None or now - host.rotated_at > OLD_KEY_LIFETIME:
            raise
        return letter.verify(task, bytes(host.previous_key))
