"""Agent and server together: the agent's own join and rotation against the real API over HTTP."""

import pytest
from django.utils import timezone

from fleet import enrolment, server_key
from fleet.audit import Actor
from fleet.models import Host
from telemetry.agent import membership
from telemetry.agent.join import finish, join, machine_digest, rotate_key
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey
from telemetry.agent.server_call import CallFailed

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
