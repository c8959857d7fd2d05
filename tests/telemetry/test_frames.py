"""Threads that compress and decompress at once: in one object of zstd's they would crash the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.telemetry import side_by_side

SECONDS = 0.25


@pytest.mark.parametrize("place", side_by_side.PLACES)
def test_two_threads_in_the_same_functions_do_not_disturb_each_other(place):
    done = subprocess.run(
        [sys.executable, "-m", "tests.telemetry.side_by_side", place, str(SECONDS)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
