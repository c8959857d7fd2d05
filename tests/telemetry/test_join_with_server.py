"""Agent and server together: the agent's own join and rotation against the real API over HTTP."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.joining import enrolment, server_key
from fleet.models import Event, EventKind, Host
from telemetry.agent import join as join_module
from telemetry.agent import membership
from telemetry.agent.join import finish, join, machine_digest, rotate_key
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey, Seal
from telemetry.agent.server_call import CallFailed
from telemetry.message.wire import INGEST_TASK
from telemetry.receiving.authentic import admit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token():
    return enrolment.add_host("gpu-a01", "pool-1", None, Actor("test", None), timezone.now())[1]


@pytest.fixture
def joined(live_server, token, tmp_path):
    return join(tmp_path, live_server.url, token, server_key.fingerprint())


def servers_key() -> bytes:
    return bytes(Host.objects.get(name="gpu-a01").public_key)


def test_a_host_joins(joined, tmp_path):
    assert (joined.host, joined.cluster) == ("gpu-a01", "pool-1")
    assert servers_key() == HostKey.load(tmp_path).public_bytes
    assert Host.objects.get().machine == machine_digest(tmp_path)


def test_a_join_whose_answer_never_came_is_repeated(live_server, token, tmp_path):
    lost = tmp_path / "lost"
    lost.mkdir()
    join(lost, live_server.url, token, server_key.fingerprint())
    (lost / "host.key").rename(lost / JOINING_NAME)  # as if the answer had not been read
    (lost / "membership.json").unlink()

    join(lost, live_server.url, token, server_key.fingerprint())

    assert servers_key() == HostKey.load(lost).public_bytes


def test_a_token_serves_one_host(joined, live_server, token, tmp_path):
    other = tmp_path / "other"
    other.mkdir()

    with pytest.raises(CallFailed, match="was used before; make a new one with add_host"):
        join(other, live_server.url, token, server_key.fingerprint())


def test_a_key_is_rotated(joined, tmp_path):
    rotate_key(tmp_path)

    assert servers_key() == HostKey.load(tmp_path).public_bytes != joined.public_key


@pytest.mark.parametrize("again", [finish, rotate_key])
def test_a_rotation_whose_answer_never_came_is_finished(joined, tmp_path, again):
    old = (tmp_path / "host.key").read_bytes()
    rotate_key(tmp_path)
    (tmp_path / "host.key").rename(tmp_path / NEXT_NAME)  # the server knows the new key, this host does not know that
    (tmp_path / "host.key").write_bytes(old)
    membership.save(tmp_path, joined)

    again(tmp_path)

    assert servers_key() == HostKey.load(tmp_path).public_bytes != joined.public_key
    assert not (tmp_path / NEXT_NAME).exists()


def test_an_agent_that_lost_the_answer_is_believed_until_it_has_finished(joined, tmp_path):
    old = (tmp_path / "host.key").read_bytes()
    rotate_key(tmp_path)
    (tmp_path / "host.key").rename(tmp_path / NEXT_NAME)
    (tmp_path / "host.key").write_bytes(old)
    membership.save(tmp_path, joined)
    seal = Seal(tmp_path, "gpu-a01")
    later = timezone.now() + timedelta(days=30)

    assert admit(seal(INGEST_TASK, b"before"), INGEST_TASK, later)[1] == b"before"
    finish(tmp_path)
    assert admit(seal(INGEST_TASK, b"after"), INGEST_TASK, later)[1] == b"after"
    assert Host.objects.get().key_used_at == later


def test_a_clock_that_is_off_is_no_refusal_for_ever(joined, tmp_path, monkeypatch):
    monkeypatch.setattr("telemetry.agent.join._now_ms", lambda: 1_700_000_000_000)

    with pytest.raises(CallFailed, match="clock that is more than 5 minutes off") as failed:
        rotate_key(tmp_path)
    assert not failed.value.is_refusal


class PowerCut(BaseException):
    """What comes after did not happen."""


def cut_before(*_args, **_options):
    raise PowerCut


def cut_after(function):
    def both(*args, **options):
        function(*args, **options)
        raise PowerCut

    return both


CUTS = {
    "before the server hears of it": (join_module, "post", cut_before),
    "when the server has the new key": (join_module, "post", cut_after(join_module.post)),
    "before the membership is on the disk": (membership, "save", cut_before),
    "between the membership and the key": (membership, "take", cut_before),
    "when all is done": (membership, "take", cut_after(membership.take)),
}


@pytest.mark.parametrize(("module", "name", "cut"), CUTS.values(), ids=CUTS)
def test_wherever_a_rotation_breaks_off_its_host_is_believed_and_finishes_it(
    joined, tmp_path, monkeypatch, module, name, cut
):
    with monkeypatch.context() as broken:
        broken.setattr(module, name, cut)
        with pytest.raises(PowerCut):
            rotate_key(tmp_path)
    later = timezone.now() + timedelta(days=30)

    assert admit(Seal(tmp_path, "gpu-a01")(INGEST_TASK, b"before"), INGEST_TASK, later)
    finish(tmp_path)
    assert admit(Seal(tmp_path, "gpu-a01")(INGEST_TASK, b"after"), INGEST_TASK, later)
    assert servers_key() == HostKey.load(tmp_path).public_bytes != joined.public_key
    assert Event.objects.filter(kind=EventKind.KEY_ROTATED).get().count == 1
