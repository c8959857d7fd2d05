"""The agent of the server's own machine, as `manage.py up` enrols it before it starts it."""

import json
import socket

import pytest
from django.utils import timezone

from fleet.joining import own_agent, server_key
from fleet.models import Event, Host, Origin
from fleet.up.startup import StartRefused
from telemetry.agent import membership as agent_membership
from telemetry.agent.version import version
from tests.factories import make_host

pytestmark = pytest.mark.django_db

BROKER = "redis://:geheim@127.0.0.1:{}/0"


@pytest.fixture(autouse=True)
def machine(settings, tmp_path, monkeypatch):
    """A data directory of its own, on a machine with a name."""
    settings.STEPWATT_DATA_DIR = tmp_path
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-a01")
    return tmp_path


def enrol(port: int = 1) -> str:
    return own_agent.enrol(BROKER.format(port), timezone.now())


def membership(directory) -> dict[str, str]:
    return json.loads((directory / "agent" / "membership.json").read_text())


def test_its_agent_is_a_member_before_it_starts(machine):
    assert enrol() == "gpu-a01"

    host = Host.objects.get()
    assert (host.name, host.origin, len(host.public_key), len(host.machine)) == ("gpu-a01", Origin.REAL, 32, 32)
    assert membership(machine)["broker_url"] == BROKER.format(1)
    assert Event.objects.get(kind="host_joined").detail["agent_version"] == version()


def test_it_knows_the_servers_key(machine):
    enrol()

    assert agent_membership.load(machine / "agent").server_public_key == server_key.public_bytes()


def test_a_second_start_changes_nothing_but_where_the_broker_is(machine):
    enrol(1)
    before = Host.objects.values().get()

    enrol(2)

    assert Host.objects.values().get() == before
    assert membership(machine)["broker_url"] == BROKER.format(2)
    assert Event.objects.count() == 1


def test_a_machine_that_was_renamed_stays_the_host_that_it_was(machine, monkeypatch):
    enrol()
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-b99")

    assert enrol() == "gpu-a01"

    assert (Host.objects.count(), membership(machine)["host"]) == (1, "gpu-a01")


@pytest.mark.parametrize(
    ("system", "name"), [("böx_1", "b-x_1"), ("-x", "x"), ("a" * 80, "a" * 63), ("--", "localhost")]
)
def test_a_machines_name_becomes_one_that_a_host_can_have(monkeypatch, system, name):
    monkeypatch.setattr(socket, "gethostname", lambda: system)

    assert enrol() == name


def test_an_imported_host_of_the_machines_name_is_in_the_way():
    make_host("gpu-a01", origin=Origin.IMPORTED)

    with pytest.raises(StartRefused, match=r"gpu-a01 is imported.*manage\.py remove_host gpu-a01"):
        enrol()


def test_another_machine_of_this_ones_name_keeps_its_place_and_people_hear_what_to_do():
    make_host("gpu-a01", public_key=b"k" * 32, machine="ab" * 16)

    with pytest.raises(
        StartRefused, match=r"another machine; remove that host \(manage.py remove_host gpu-a01\).*or give"
    ):
        enrol()

    assert bytes(Host.objects.get().public_key) == b"k" * 32


def test_an_agent_whose_key_was_removed_has_a_new_one_at_the_next_start(machine):
    enrol()
    before = bytes(Host.objects.get().public_key)
    (machine / "agent" / "host.key").unlink()

    assert enrol() == "gpu-a01"

    assert bytes(Host.objects.get().public_key) != before


def test_a_damaged_key_is_named(machine):
    (machine / "agent").mkdir()
    (machine / "agent" / "host.key").write_text("AAAA")

    with pytest.raises(StartRefused, match=r"host\.key: the host's key is damaged"):
        enrol()
