"""How `make test` divides the tests among its processes: a file's tests run in one of them, and what is long is begun first."""

import re
import subprocess
import sys

from tests.grouping import BEGUN_FIRST, TOGETHER, first_of, group_of
from tests.stack import ROOT

FILES = ("tests/fleet/test_units.py", "tests/fleet/test_env.py", "tests/telemetry/test_sequences.py")
MACHINES = re.compile(r"^from tests\.(namespaces|process\.pair) import", re.MULTILINE)
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


def test_what_shares_a_product_or_makes_networks_runs_in_the_same_process():
    for group, files in TOGETHER.items():
        assert {group_of(f"{file}::test[1]") for file in files} == {group}
        assert all((ROOT / file).exists() for file in files)

    assert group_of("tests/process/test_faults.py::test[1]") == "tests/process/test_faults.py"


def test_networks_of_several_machines_are_never_two_at_a_time():
    files = [file for file in (ROOT / "tests").glob("*/test_*.py") if MACHINES.search(file.read_text())]

    assert len(files) >= 3
    assert {group_of(f"{file.relative_to(ROOT)}::test") for file in files} == {"networks"}


def test_a_free_process_begins_what_is_known_to_be_long_else_what_has_most_tests():
    groups = {"a.py": ["1"], "b.py": ["1", "2"], BEGUN_FIRST[-1]: ["1"], BEGUN_FIRST[0]: ["1"]}

    begun = []
    while groups:
        begun.append(first_of(groups))
        del groups[begun[-1]]

    assert begun == [BEGUN_FIRST[0], BEGUN_FIRST[-1], "b.py", "a.py"]


def test_what_is_known_to_be_long_is_there():
    groups = {group_of(f"{file.relative_to(ROOT)}::test") for file in (ROOT / "tests").rglob("test_*.py")}

    assert set(BEGUN_FIRST) <= groups
