"""Which parts of a long bench run."""

import pytest

from telemetry.bench import parts
from telemetry.bench.figure import BenchFailed

VARIABLE = "STEPWATT_BENCH_TEST_PARTS"
PARTS = {"one": list, "other": list, "third": list}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, ["one", "other", "third"]), ("", ["one", "other", "third"]), ("third, one", ["one", "third"])],
)
def test_those_that_are_named_run_or_all(monkeypatch, asked, expected):
    if asked is not None:
        monkeypatch.setenv(VARIABLE, asked)

    assert list(parts.chosen(VARIABLE, PARTS)) == expected


def test_a_part_that_does_not_exist_is_told(monkeypatch):
    monkeypatch.setenv(VARIABLE, "one,path")

    with pytest.raises(BenchFailed, match="no part path; there are one, other, third"):
        parts.chosen(VARIABLE, PARTS)
