"""Compaction and rollups that are killed with SIGKILL at random moments leave what they make when nobody disturbs them."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
TIMES = 25


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request, tmp_path):
    """Return a function that gives the environment of a process with an empty database."""

    def make():
        name = f"killed_{uuid.uuid4().hex}"
        settings = {"STEPWATT_DATA_DIR": str(tmp_path / name), "DJANGO_SETTINGS_MODULE": "fleet.settings"}
        if request.param == "postgresql":
            url = request.getfixturevalue("postgresql_url")
            with psycopg.connect(url, autocommit=True) as session:
                session.execute(f"CREATE DATABASE {name}")
            settings["STEPWATT_DATABASE_URL"] = f"{url.rpartition('/')[0]}/{name}"
        return os.environ | settings

    return make


def run(environment, *asked):
    program = [sys.executable, "-m", "tests.process.killed_upkeep", *map(str, asked)]
    done = subprocess.run(program, check=False, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_killed_at_any_moment_is_made_as_if_nothing_had_been(new_store):
    undisturbed = run(new_store(), 0, 0, 0)
    found = run(new_store(), 1, TIMES, 2 * undisturbed["statements"] // TIMES)

    assert found["killed"] >= 10, f"it was done before it could be killed: {found}"
    assert found["held"] == undisturbed["held"]
