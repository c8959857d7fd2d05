"""Which fleet a host belongs to: kept whole, and at one moment with its key."""

import pytest

from telemetry.agent import membership
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey
from telemetry.agent.membership import Membership, NotJoined, enrol_here

SERVER = bytes(range(32))


def member(public_key: bytes, **changes) -> Membership:
    fields = {"host": "a", "cluster": "c", "broker_url": "rediss://:p@b", "server_url": "https://s"}
    return Membership(**{**fields, "server_public_key": SERVER, "public_key": public_key, **changes})


def test_it_comes_back_as_it_was_saved_and_is_nobody_elses_to_read(tmp_path):
    saved = member(bytes(32), server_ca="/ca.pem")
    membership.save(tmp_path, saved)

    assert membership.load(tmp_path) == saved
    assert (tmp_path / "membership.json").stat().st_mode & 0o777 == 0o600


def test_a_host_that_has_not_joined_is_told_how(tmp_path):
    with pytest.raises(NotJoined, match="not joined: run `stepwatt-agent join"):
        membership.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": "../x"}', "null"])
def test_a_damaged_membership_says_so(tmp_path, content):
    (tmp_path / "membership.json").write_text(content)

    with pytest.raises(ConfigInvalid, match=r"membership\.json is damaged .*join again"):
        membership.load(tmp_path)


@pytest.mark.parametrize("name", [NEXT_NAME, JOINING_NAME])
def test_a_crash_between_membership_and_key_is_made_good(tmp_path, name):
    HostKey.load_or_create(tmp_path)
    new = HostKey.load_or_create(tmp_path, name)
    membership.save(tmp_path, member(new.public_bytes))  # and here the machine goes down

    membership.settle(tmp_path, membership.load(tmp_path))

    assert HostKey.load(tmp_path).public_bytes == new.public_bytes
    assert not (tmp_path / name).exists()


def test_a_key_that_the_server_did_not_confirm_is_not_taken(tmp_path):
    old = HostKey.load_or_create(tmp_path)
    HostKey.load_or_create(tmp_path, NEXT_NAME)
    membership.save(tmp_path, member(old.public_bytes))

    membership.settle(tmp_path, membership.load(tmp_path))

    assert HostKey.load(tmp_path).public_bytes == old.public_bytes


def test_the_servers_own_agent_is_enrolled_without_a_token_and_keeps_its_key(tmp_path):
    directory = tmp_path / "agent"

    first = enrol_here(directory, "here", "redis://127.0.0.1:1/0", SERVER)
    second = enrol_here(directory, "here", "redis://127.0.0.1:2/0", SERVER)

    assert first == second == HostKey.load(directory).public_bytes
    assert membership.load(directory).broker_url == "redis://127.0.0.1:2/0"
