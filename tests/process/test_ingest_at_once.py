"""Two workers of the ingest and PostgreSQL: the first batches of a new host, both at the same moment."""

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import postgresql

ROOT = Path(__file__).parents[2]


def test_two_first_batches_of_a_host_are_both_stored(tmp_path_factory):
    directory = tmp_path_factory.mktemp("at-once")
    with postgresql() as url:
        settings = {
            "STEPWATT_DATABASE_URL": url,
            "STEPWATT_DATA_DIR": str(directory),
            "DJANGO_SETTINGS_MODULE": "fleet.settings",
        }
        program = [sys.executable, "-m", "tests.process.ingest_at_once"]
        done = subprocess.run(
            program, check=False, env=os.environ | settings, cwd=ROOT, capture_output=True, text=True, timeout=300
        )

    assert (done.stdout.split(), done.stderr) == (["2", "1", "1"], "")
