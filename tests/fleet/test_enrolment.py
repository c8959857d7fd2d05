"""Tokens, joining, rotation, removal: what is let in, what is refused, and what people hear of it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import transaction

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from fleet.joining import enrolment
from fleet.joining.enrolment import ClockRefused, HostRefused, JoinRefused, add_host, enrol_own, join, rotate
from fleet.models import AuditEntry, EnrolmentToken, Event, EventKind, Host, Origin
from tests.factories import make_device, make_host
from tests.fleet.candidates import Candidate

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ADA = Actor("ada", "192.0.2.7")
DAY = timedelta(hours=24)


def added(name: str = "gpu-a01", now: datetime = NOW) -> str:
    return add_host(name, None, None, ADA, now)[1]


def joined(name: str = "gpu-a01", machine: str = "0" * 32) -> Candidate:
    """Return the machine that has joined as the host."""
    candidate = Candidate(machine)
    join(added(name), candidate.identity, NOW)
    return candidate


def kinds() -> list[str]:
    return [event.kind for event in Event.objects.order_by("pk")]


def test_a_host_that_was_added_waits_for_its_agent():
    host, token = add_host("gpu-a01", "atlas", {"rack": "r12"}, ADA, NOW)

    assert (host.cluster, host.labels, bytes(host.public_key), host.joined_at) == ("atlas", {"rack": "r12"}, b"", None)
    assert token.startswith("swj_")


def test_of_a_token_only_the_digest_is_stored():
    token = added()

    stored = EnrolmentToken.objects.get()
    assert token not in str(vars(stored))
    assert stored.expires_at == NOW + DAY


def test_adding_stands_in_the_audit_log():
    added()

    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.subject, entry.address) == ("ada", "host.add", "gpu-a01", "192.0.2.7")


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a" * 64, "add", "ä"])
def test_a_name_that_no_host_can_have_is_refused(name):
    with pytest.raises(HostRefused) as refusal:
        added(name)

    assert refusal.value.field == "name"


@pytest.mark.parametrize(
    ("cluster", "labels", "field"),
    [
        ("a" * 64, None, "cluster"),
        ("a\nb", None, "cluster"),
        (None, {"a b": "c"}, "labels"),
        (None, {"a": "\0"}, "labels"),
    ],
)
def test_a_cluster_or_label_that_cannot_be_is_refused(cluster, labels, field):
    with pytest.raises(HostRefused) as refusal:
        add_host("gpu-a01", cluster, labels, ADA, NOW)

    assert refusal.value.field == field
    assert not Host.objects.exists()


@pytest.mark.parametrize("origin", [Origin.IMPORTED, Origin.SIMULATED])
def test_a_host_without_a_machine_is_not_joined(origin):
    make_host("gpu-a01", origin=origin)

    with pytest.raises(HostRefused, match="no machine can join under its name"):
        added()


def test_adding_a_host_again_keeps_what_is_not_given():
    add_host("gpu-a01", "atlas", {"rack": "r12"}, ADA, NOW)

    host, _ = add_host("gpu-a01", None, {"rack": "r13"}, ADA, NOW)

    assert (host.cluster, host.labels) == ("atlas", {"rack": "r13"})


def test_a_new_token_makes_the_earlier_one_void():
    earlier = added()
    added()

    with pytest.raises(JoinRefused, match="unknown"):
        join(earlier, Candidate().identity, NOW)


def test_an_agent_with_the_token_becomes_the_host():
    candidate = Candidate("ab" * 16)

    host = join(added(), candidate.identity, NOW)

    host.refresh_from_db()
    assert (bytes(host.public_key), host.machine, host.joined_at) == (candidate.public_key, "ab" * 16, NOW)
    assert kinds() == [EventKind.HOST_JOINED]
    assert AuditEntry.objects.filter(action="host.join", actor="agent:gpu-a01").count() == 1


def test_a_token_works_once():
    token = added()
    first = Candidate()
    join(token, first.identity, NOW)

    with pytest.raises(JoinRefused, match="used before"):
        join(token, Candidate().identity, NOW)

    assert bytes(Host.objects.get().public_key) == first.public_key
    assert Event.objects.get(kind=EventKind.JOIN_REFUSED).host.name == "gpu-a01"


def test_a_token_expires():
    token = added()

    with pytest.raises(JoinRefused, match="expired"):
        join(token, Candidate().identity, NOW + DAY)

    assert bytes(Host.objects.get().public_key) == b""


def test_a_join_whose_answer_was_lost_is_answered_again():
    token, candidate = added(), Candidate()
    join(token, candidate.identity, NOW)

    assert join(token, candidate.identity, NOW + DAY / 2).name == "gpu-a01"

    assert kinds() == [EventKind.HOST_JOINED]
    with pytest.raises(JoinRefused, match="expired"):
        join(token, candidate.identity, NOW + DAY)


def test_refused_joins_close_in_time_are_one_event_with_a_count():
    for seconds in range(3):
        with pytest.raises(JoinRefused, match="unknown"):
            join("swj_guess", Candidate().identity, NOW + timedelta(seconds=seconds))

    event = Event.objects.get()
    assert (event.kind, event.count, event.host) == (EventKind.JOIN_REFUSED, 3, None)


def test_a_machine_that_was_set_up_anew_takes_its_hosts_place():
    before = joined()
    after = Candidate()

    join(added(), after.identity, NOW)

    assert bytes(Host.objects.get().public_key) == after.public_key != before.public_key
    assert "again" in Event.objects.filter(kind=EventKind.HOST_JOINED).latest("pk").text


def test_a_key_stands_for_one_host():
    first = joined("gpu-a01")
    token = added("gpu-a02")

    with pytest.raises(JoinRefused, match="gpu-a02 brings the key of gpu-a01") as refusal:
        join(token, first.identity, NOW)

    assert (refusal.value.kind, refusal.value.other) == (EventKind.CLONED_KEY, "gpu-a01")
    assert EventKind.CLONED_KEY in kinds()
    assert bytes(Host.objects.get(name="gpu-a02").public_key) == b""
    assert join(token, Candidate().identity, NOW)  # the token is not spent on a refusal


def test_two_live_hosts_with_one_machine_id_are_told_of():
    joined("gpu-a01", "ab" * 16)
    joined("gpu-a02", "ab" * 16)

    event = Event.objects.get(kind=EventKind.CLONED_MACHINE)
    assert event.detail == {"hosts": ["gpu-a02", "gpu-a01"]}
    assert (event.host.name, "gpu-a01" in event.text) == ("gpu-a02", True)


def test_a_machine_that_left_one_name_for_another_is_no_clone():
    joined("gpu-a01", "ab" * 16)
    Host.objects.update(heard_at=NOW + timedelta(seconds=1))  # and not since
    token = added("gpu-a02")

    join(token, Candidate("ab" * 16).identity, NOW + timedelta(hours=1))

    assert EventKind.CLONED_MACHINE not in kinds()


def rotation(old: Candidate, new: Candidate, *, at: datetime = NOW, host: str = "gpu-a01", now: datetime = NOW) -> Host:
    at_ms = int(at.timestamp() * 1000)
    return rotate(host, new.identity, at_ms, old.key.sign(enrolment.rotation_text(host, new.public_key, at_ms)), now)


def test_a_key_makes_way_for_one_that_it_signed():
    old, new = joined(), Candidate()

    rotation(old, new)

    host = Host.objects.get()
    assert (bytes(host.public_key), host.key_used_at) == (new.public_key, None)
    assert host.earlier_keys == [{"key": old.public_key.hex(), "replaced_ms": int(NOW.timestamp() * 1000)}]
    assert EventKind.KEY_ROTATED in kinds()
    assert AuditEntry.objects.filter(action="host.rotate_key").count() == 1


def test_the_newest_three_of_a_hosts_earlier_keys_are_kept():
    keys = [joined(), *(Candidate() for _ in range(4))]
    for old, new in pairwise(keys):
        rotation(old, new)

    kept = [earlier["key"] for earlier in Host.objects.get().earlier_keys]
    assert kept == [key.public_key.hex() for key in (keys[3], keys[2], keys[1])]


def test_a_host_that_joins_again_has_no_earlier_keys():
    rotation(joined(), Candidate())
    Host.objects.update(key_used_at=NOW)

    join(added(), Candidate().identity, NOW)

    host = Host.objects.get()
    assert (host.earlier_keys, host.key_used_at) == ([], None)


def test_a_rotation_after_another_awaits_the_newest_key():
    first, second = joined(), Candidate()
    rotation(first, second)
    Host.objects.update(key_used_at=NOW)

    rotation(second, Candidate())

    assert Host.objects.get().key_used_at is None


def test_a_rotation_whose_answer_was_lost_is_answered_again():
    old, new = joined(), Candidate()
    rotation(old, new)

    later = NOW + timedelta(minutes=20)
    rotation(old, new, at=later, now=later)

    assert kinds().count(EventKind.KEY_ROTATED) == 1


def test_nobody_but_the_present_key_puts_another_in_its_place():
    old, stranger = joined(), Candidate()

    with pytest.raises(JoinRefused, match="not signed by its present key"):
        rotation(stranger, Candidate())
    with pytest.raises(JoinRefused, match="not signed by its present key"):
        rotation(stranger, old)  # who knows the present public key learns nothing

    assert bytes(Host.objects.get().public_key) == old.public_key
    assert Event.objects.get(kind=EventKind.JOIN_REFUSED).count == 2


def test_the_key_before_cannot_rotate_any_more():
    old, new = joined(), Candidate()
    rotation(old, new)

    with pytest.raises(JoinRefused, match="not signed by its present key"):
        rotation(old, Candidate())


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_rotation_from_another_time_is_refused(minutes):
    old = joined()

    with pytest.raises(ClockRefused, match="5 minutes off"):
        rotation(old, Candidate(), at=NOW + timedelta(minutes=minutes))
    assert bytes(Host.objects.get().public_key) == old.public_key


def test_a_stranger_is_not_told_of_his_clock():
    joined()

    with pytest.raises(JoinRefused, match="not signed by its present key"):
        rotation(Candidate(), Candidate(), at=NOW + timedelta(hours=1))


def test_a_rotation_of_a_host_that_never_joined_is_refused():
    added()

    for name in ("gpu-a01", "nobody"):
        with pytest.raises(JoinRefused, match="not enrolled"):
            rotation(Candidate(), Candidate(), host=name)


def test_a_rotation_to_another_hosts_key_is_refused():
    first, second = joined("gpu-a01"), joined("gpu-a02")

    with pytest.raises(JoinRefused, match="gpu-a01 brings the key of gpu-a02"):
        rotation(first, second)


def test_the_servers_own_agent_needs_no_token():
    candidate = Candidate()

    for _ in range(2):
        enrol_own("gpu-a01", candidate.identity, ADA, NOW)

    assert bytes(Host.objects.get().public_key) == candidate.public_key
    assert kinds() == [EventKind.HOST_JOINED]


def test_the_servers_own_agent_does_not_take_an_imported_hosts_name():
    make_host("gpu-a01", origin=Origin.IMPORTED)

    with pytest.raises(HostRefused, match="is imported"):
        enrol_own("gpu-a01", Candidate().identity, ADA, NOW)


def test_the_servers_own_agent_does_not_take_the_place_of_another_machine():
    before = joined(machine="ab" * 16)

    with pytest.raises(HostRefused, match="gpu-a01 is the name of a host that joined from another machine"):
        enrol_own("gpu-a01", Candidate("cd" * 16).identity, ADA, NOW)

    assert bytes(Host.objects.get().public_key) == before.public_key


def test_the_servers_own_agent_may_have_a_new_key():
    joined(machine="ab" * 16)
    anew = Candidate("ab" * 16)

    enrol_own("gpu-a01", anew.identity, ADA, NOW)

    assert bytes(Host.objects.get().public_key) == anew.public_key


def test_the_servers_own_agent_does_not_bring_another_hosts_key():
    first = joined("gpu-a01")

    with pytest.raises(HostRefused, match="brings the key of gpu-a01"):
        enrol_own("gpu-a02", first.identity, ADA, NOW)

    assert not Host.objects.filter(name="gpu-a02").exists()


def test_a_removed_host_leaves_its_event_and_nothing_else():
    joined()
    token = added()
    host = Host.objects.get()
    make_device(host)

    remove_host(host, ADA, NOW)

    assert not Host.objects.exists()
    event = Event.objects.get()
    assert (event.kind, event.host, event.detail["host"], event.detail["devices"]) == (
        EventKind.HOST_REMOVED, None, "gpu-a01", 1,
    )  # fmt: skip
    assert AuditEntry.objects.get(action="host.remove").subject == "gpu-a01"
    with pytest.raises(JoinRefused, match="its host was removed"):
        join(token, Candidate().identity, NOW)


def test_a_removed_hosts_name_and_key_are_free_again():
    candidate = joined()
    remove_host(Host.objects.get(), ADA, NOW)

    assert join(added(), candidate.identity, NOW).name == "gpu-a01"


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_refused_join_is_written_but_its_event():
    token = added()

    with pytest.raises(JoinRefused), transaction.atomic():
        join(token, Candidate().identity, NOW + DAY)
    with pytest.raises(JoinRefused):
        join(token, Candidate().identity, NOW + DAY)

    assert EnrolmentToken.objects.get().used_at is None
    assert Event.objects.count() == 1
