"""The agent's settings: from its membership, with the environment before it."""

import os
from pathlib import Path

import pytest

from telemetry.agent import config
from telemetry.agent.config import SYSTEM_DIRECTORY, ConfigInvalid, agent_directory, read_config
from telemetry.agent.membership import NotJoined, enrol_here


@pytest.fixture
def env(tmp_path):
    enrol_here(tmp_path / "agent", "gpu-a01", "redis://:p@membership/0", bytes(32))
    return {"STEPWATT_DATA_DIR": str(tmp_path)}


def test_name_and_broker_are_the_memberships(env):
    found = read_config(env)

    assert (found.host, found.broker_url, found.server_public_key) == (
        "gpu-a01", "redis://:p@membership/0", bytes(32),
    )  # fmt: skip


def test_the_environments_broker_comes_first_and_that_of_a_file_before_it(env, tmp_path):
    (tmp_path / "url").write_text("amqps://file/\n")

    assert read_config(env | {"STEPWATT_BROKER_URL": "redis://env"}).broker_url == "redis://env"
    file = {"STEPWATT_BROKER_URL": "redis://env", "STEPWATT_BROKER_URL_FILE": str(tmp_path / "url")}
    assert read_config(env | file).broker_url == "amqps://file/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPWATT_BROKER_URL", "http://x"),
        ("STEPWATT_BROKER_URL_FILE", "/nowhere"),
        ("STEPWATT_BROKER_CA", "/nowhere"),
        ("STEPWATT_SAMPLE_SECONDS", "soon"),
        ("STEPWATT_BATCH_SECONDS", "3600"),
        ("STEPWATT_SOCKET", "/" + "x" * 108),
    ],
)
def test_a_bad_setting_is_named(env, name, value):
    with pytest.raises(ConfigInvalid, match=name):
        read_config(env | {name: value})


def test_a_host_that_has_not_joined_has_no_settings(tmp_path):
    with pytest.raises(NotJoined):
        read_config({"STEPWATT_DATA_DIR": str(tmp_path)})


def test_a_wheels_agent_keeps_its_files_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    directory = agent_directory({"HOME": str(tmp_path)})

    assert directory == tmp_path / ".local/share/stepwatt"
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_wheels_agent_of_root_keeps_its_files_where_systems_do(monkeypatch):
    made = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "mkdir", lambda path, **_: made.append(path))
    monkeypatch.setattr(os, "access", lambda *_: True)

    assert agent_directory({}) == SYSTEM_DIRECTORY == made[0] == Path("/var/lib/stepwatt")


def test_a_machines_own_agent_listens_for_steps_where_all_may_see_it():
    assert config._socket_path({}, SYSTEM_DIRECTORY) == Path("/run/stepwatt/steps.sock")
    assert config._socket_path({"STEPWATT_SOCKET": "/mnt/s"}, SYSTEM_DIRECTORY) == Path("/mnt/s")
    assert config._socket_path({}, Path("/home/ada/x")) == Path("/home/ada/x/steps.sock")
