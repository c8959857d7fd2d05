"""The systemd unit that the agent prints, read by systemd itself."""

import os
import subprocess

import pytest

from telemetry.agent.unit import unit
from tests.programs import require


@pytest.fixture
def printed(tmp_path):
    directory = tmp_path / "my data" / "50%"
    directory.mkdir(parents=True)
    return unit(directory, {"STEPWATT_DATA_DIR": str(directory), "STEPWATT_BROKER_URL": "redis://:secret@b"})


@pytest.mark.parametrize("euid", [0, 1000])
def test_systemd_finds_no_fault_in_it(tmp_path, monkeypatch, euid):
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    path = tmp_path / "stepwatt-agent.service"
    path.write_text(unit(tmp_path, {"STEPWATT_DATA_DIR": f"{tmp_path}/a b%", "STEPWATT_BATCH_SECONDS": "2"}))

    checked = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_it_holds_no_password(printed):
    assert "secret" not in printed


def test_signs_that_mean_something_to_systemd_are_escaped(printed):
    assert 'my data/50%%"' in printed


def test_it_restarts_for_ever_and_takes_what_is_left_of_jobs_with_it(printed):
    assert {"Restart=always", "StartLimitIntervalSec=0", "KillMode=mixed"} <= set(printed.splitlines())


def test_the_directory_of_the_step_socket_outlives_a_restart(printed):
    assert {"RuntimeDirectory=stepwatt", "RuntimeDirectoryMode=0755", "RuntimeDirectoryPreserve=yes"} <= set(
        printed.splitlines()
    )
