"""How `make test` divides the tests among its two processes: a file's tests run in one of them, whole programs in one, too."""

import re
import subprocess
import sys

import pytest

from tests.conftest import group_of
from tests.stack import ROOT

FILES = ("tests/fleet/test_units.py", "tests/fleet/test_env.py", "tests/telemetry/test_sequences.py")
REPORTED = re.compile(r"^\[(gw\d)\] .*?PASSED (\S+?)::", re.MULTILINE)


def test_the_tests_of_a_file_run_in_one_process(tmp_path):
    (calls,) = re.findall(r"-m pytest (--numprocesses .+)", (ROOT / "Makefile").read_text())
    options = [*calls.split(), "--verbose", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *FILES],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    assert sorted(file for _, file in set(REPORTED.findall(done.stdout))) == sorted(FILES)


@pytest.mark.parametrize("directory", ["process", "e2e", "soak", "frameworks"])
def test_what_starts_whole_programs_runs_in_the_same_process(directory):
    of_programs = group_of("tests/process/test_b.py::test")

    assert group_of(f"tests/{directory}/test_a.py::test[1]") == of_programs
    assert group_of(f"tests/fleet/test_{directory}.py::test[1]") != of_programs
