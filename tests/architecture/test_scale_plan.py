"""The plan in docs/scale.md: its sums come out, and what they begin with is what stands measured above it."""

import re
from functools import reduce
from operator import add, mul, sub, truediv
from pathlib import Path

import pytest

MEASURED, PLAN = (Path(__file__).parents[2] / "docs" / "scale.md").read_text().split("## The plan to 100,000 GPUs")
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_TERM = rf"{_NUMBER}(?: (?:s per million|[A-Za-z]+(?:/s)?))*"
_SUM = re.compile(rf"{_TERM}(?: [×/+−] {_TERM})+ = {_TERM}")
_TIMES = {"M": 1e6, "M/s": 1e6, "MB": 1e6, "MB/s": 1e6, "GB": 1e9, "million": 1e6, "billion": 1e9}
_DEEDS = {"×": mul, "/": truediv, "+": add, "−": sub}
SUMS = _SUM.findall(PLAN)

_PER_VALUE = rf"On the wire .*?: {_NUMBER} and ({_NUMBER}) with 5 s batches, {_NUMBER} and ({_NUMBER}) with 10 s"
# Where a figure stands measured, and where the plan uses it.
USED = {
    "CPU of 10 s batches": (rf"10 s batches.*\n\| CPU of it \| ({_NUMBER})", r"\| 10 \|.*\| {} s per million × "),
    "CPU of 60 s batches": (rf"60 s batches.*\n\| CPU of it \| ({_NUMBER})", r"\| 60 \|.*\| {} s per million × "),
    "broker, 5 s batches": (rf"{_PER_VALUE}.*", r"\| 5 \|[^|]*\| {} B × "),
    "broker, 10 s batches": (_PER_VALUE.replace("and (", "and (?:", 1), r"\| 10 \|[^|]*\| {} B × "),
    "one worker": (rf"1 → 2 workers \| ({_NUMBER}) → ", r"one worker took {} M values/s and two "),
    "two workers": (rf"1 → 2 workers \| {_NUMBER} → ({_NUMBER}) M", r" and two {} M with 10 s batches"),
    "samples on the disk": (rf"samples of a day at 1 Hz \| ({_NUMBER}) B", r"compaction {} B × "),
    "all on the disk": (rf"with all rollups \| ({_NUMBER}) B", r"another {} B − "),
    "ingest": (rf"\| ingest \| ({_NUMBER}) \|", r"\| {} \+ 0\.\d+ = 0\.\d+ cores, "),
    "the broker's cores": (rf"\| broker \| ({_NUMBER}) \|", r"\*\*Broker\.\*\* {} cores and "),
    "upkeep": (rf"\| upkeep .*\| ({_NUMBER}) \|", r"default worker\*\* used {} and "),
    "the default worker": (rf"\| worker .*\| ({_NUMBER}) \|", r"default worker\*\* used 0\.\d+ and {} cores"),
}


def value(term: str) -> float:
    number, *units = term.replace(",", "").split(" ")
    scales = [_TIMES.get(unit, 1.0) for unit in units]
    return float(number) * (1e-6 if "per million" in term else reduce(mul, scales, 1.0))


def half_a_digit(term: str) -> float:
    """Return what may have been rounded away of a number as it is written."""
    number = term.split(" ", maxsplit=1)[0]
    decimals = len(number.partition(".")[2])
    return value(term) / float(number.replace(",", "")) * 0.501 / 10**decimals


def test_the_plan_has_its_sums():
    assert len(SUMS) > 15


@pytest.mark.parametrize("asked", SUMS)
def test_a_sum_of_the_plan_comes_out(asked):
    left, _, right = asked.partition(" = ")
    first, *rest = re.split(r" ([×/+−]) ", left)
    found = value(first)
    for deed, term in zip(rest[::2], rest[1::2], strict=True):
        found = _DEEDS[deed](found, value(term))

    assert found == pytest.approx(value(right), rel=0.01, abs=half_a_digit(right))


@pytest.mark.parametrize("what", USED)
def test_the_plan_begins_with_what_was_measured(what):
    stands, used = USED[what]
    found = re.search(stands, MEASURED)

    assert found, f"docs/scale.md does not say what was measured: {what}"
    assert re.search(used.format(re.escape(found[1])), PLAN), (
        f"{what}: measured {found[1]}, the plan has another figure"
    )
