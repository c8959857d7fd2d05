"""The door that every message from a host passes."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.models import Event, EventKind, Origin
from telemetry.message.envelope import seal
from telemetry.message.wire import INGEST_TASK, MessageInvalid
from telemetry.receiving.authentic import OLD_KEY_LIFETIME, admit
from tests.factories import make_host

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY, OTHER, OLDER = (Ed25519PrivateKey.generate() for _ in range(3))

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


def rotated(*steps, used_at=None):
    """Return a host with the key KEY that had the earlier keys of `steps`: (key, how long ago it was replaced)."""
    earlier = [{"key": public(key).hex(), "replaced_ms": int((NOW - ago).timestamp() * 1000)} for key, ago in steps]
    return make_host("gpu-a01", public_key=public(KEY), earlier_keys=earlier, key_used_at=used_at)


def is_admitted(key, now=NOW) -> bool:
    try:
        return admit(seal(key, INGEST_TASK, "gpu-a01", b"body"), INGEST_TASK, now)[1] == b"body"
    except MessageInvalid:
        return False


def test_what_the_broker_held_over_several_rotations_is_still_admitted():
    rotated((OTHER, timedelta(days=3)), (OLDER, timedelta(days=4)), used_at=NOW - timedelta(days=3))

    assert is_admitted(OTHER)
    assert is_admitted(OLDER)
    assert not Event.objects.exists()


def test_the_key_before_is_believed_for_a_week_after_the_new_one_was_heard():
    used_at = NOW - OLD_KEY_LIFETIME
    rotated((OTHER, timedelta(days=30)), used_at=used_at)

    assert is_admitted(OTHER)
    assert not is_admitted(OTHER, NOW + timedelta(seconds=1))
    assert [event.kind for event in Event.objects.all()] == [EventKind.FORGED_MESSAGE]


def test_an_agent_that_never_heard_of_its_rotation_is_not_locked_out():
    rotated((OTHER, timedelta(days=300)))

    assert is_admitted(OTHER)


def test_a_key_that_another_earlier_one_replaced_is_believed_for_a_week_after_that():
    rotated((OTHER, OLD_KEY_LIFETIME), (OLDER, timedelta(days=30)))

    assert is_admitted(OLDER)
    assert not is_admitted(OLDER, NOW + timedelta(seconds=1))


def test_the_first_message_under_the_new_key_is_noted_once():
    host = rotated((OTHER, timedelta(minutes=1)))
    for hours in (0, 1):
        assert is_admitted(KEY, NOW + timedelta(hours=hours))

    host.refresh_from_db()
    assert host.key_used_at == NOW


def test_a_message_of_a_host_that_never_rotated_writes_nothing(django_assert_num_queries):
    make_host("gpu-a01", public_key=public(KEY))

    with django_assert_num_queries(1):
        assert is_admitted(KEY)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x80", b"\x81\xa1v\x01"])
def test_junk_is_refused_without_an_event(junk):
    with pytest.raises(MessageInvalid):
        admit(junk, INGEST_TASK, NOW)
    assert not Event.objects.exists()
