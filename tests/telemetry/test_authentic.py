"""The door that every message from a host passes."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.models import Event, EventKind, Origin
from telemetry.authentic import OLD_KEY_LIFETIME, admit
from telemetry.envelope import seal
from telemetry.wire import INGEST_TASK, MessageInvalid
from tests.factories import make_host

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

pytestmark = pytest.mark.django_db


def public(key):
    return key.public_key().public_bytes_raw()


def test_a_message_of_an_enrolled_host_is_admitted():
    host = make_host("gpu-a01", public_key=public(KEY))
    assert admit(seal(KEY, INGEST_TASK, "gpu-a01", b"body"), INGEST_TASK, NOW) == (host, b"body")
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("letter", "kind"),
    [
        (seal(OTHER, INGEST_TASK, "gpu-a01", b"body"), EventKind.FORGED_MESSAGE),
        (seal(KEY, "training.ingest_steps", "gpu-a01", b"body"), EventKind.FORGED_MESSAGE),
        (seal(KEY, INGEST_TASK, "gpu-a02", b"body"), EventKind.FOREIGN_MESSAGE),
        (seal(KEY, INGEST_TASK, "recorded", b"body"), EventKind.FOREIGN_MESSAGE),
        (seal(KEY, INGEST_TASK, "added", b"body"), EventKind.FOREIGN_MESSAGE),
    ],
    ids=["another key", "another task", "another name", "an imported host", "a host that has not joined"],
)
def test_a_message_that_is_not_the_hosts_is_refused_and_becomes_an_event(letter, kind):
    make_host("gpu-a01", public_key=public(KEY))
    make_host("recorded", origin=Origin.IMPORTED, public_key=public(OTHER))
    make_host("added")
    with pytest.raises(MessageInvalid):
        admit(letter, INGEST_TASK, NOW)
    assert [event.kind for event in Event.objects.all()] == [kind]


def test_a_message_whose_body_was_changed_is_refused():
    make_host("gpu-a01", public_key=public(KEY))
    letter = seal(KEY, INGEST_TASK, "gpu-a01", b"300 W").replace(b"300 W", b"900 W")
    with pytest.raises(MessageInvalid, match="signature"):
        admit(letter, INGEST_TASK, NOW)


def test_what_the_broker_held_when_the_key_was_rotated_is_still_admitted():
    make_host("gpu-a01", public_key=public(OTHER), previous_key=public(KEY), rotated_at=NOW - timedelta(minutes=5))
    assert admit(seal(KEY, INGEST_TASK, "gpu-a01", b"body"), INGEST_TASK, NOW)[1] == b"body"


def test_the_key_of_before_is_not_believed_for_ever():
    make_host("gpu-a01", public_key=public(OTHER), previous_key=public(KEY), rotated_at=NOW - OLD_KEY_LIFETIME * 2)
    with pytest.raises(MessageInvalid, match="signature"):
        admit(seal(KEY, INGEST_TASK, "gpu-a01", b"body"), INGEST_TASK, NOW)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x80", b"\x81\xa1v\x01"])
def test_junk_is_refused_without_an_event(junk):
    with pytest.raises(MessageInvalid):
        admit(junk, INGEST_TASK, NOW)
    assert not Event.objects.exists()
