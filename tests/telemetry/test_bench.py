"""The benchmarks' frame: what is printed and written, and that both sides of a comparison do the same work."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as read_text

from telemetry.bench import gpu_fleet, metrics
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.exposition.own_names import Names
from telemetry.management.commands import bench

SLOWER = Figure("scrape", 30.0, "ms", peer="other", peer_value=15.0, target="faster than its peer", met=False)
ALONE = Figure("memory", 50.0, "MB", target="at most 80", met=True)


def one_bench() -> list[Figure]:
    return [SLOWER]


def other_bench() -> list[Figure]:
    return [ALONE]


def failing_bench() -> list[Figure]:
    raise BenchFailed("the agent does not run")


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"one": "one_bench", "other": "other_bench", "failing": "failing_bench"}
    monkeypatch.setattr(bench, "BENCHES", {name: f"{__name__}.{function}" for name, function in names.items()})


def test_it_writes_each_figure_as_json(tmp_path: Path) -> None:
    call_command("bench", "other", json=tmp_path / "out.json", stdout=StringIO())
    assert json.loads((tmp_path / "out.json").read_text()) == [
        {
            "name": "memory",
            "value": 50.0,
            "unit": "MB",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "target": "at most 80",
            "met": True,
        }
    ]


def test_a_figure_beside_its_peer_has_a_ratio() -> None:
    assert SLOWER.as_json()["ratio"] == 2.0


def test_a_missed_target_fails_the_command_after_the_table() -> None:
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2 figures missed their target"):
        call_command("bench", "one", "other", stdout=out)
    assert "MISSED" in out.getvalue()


def test_it_refuses_a_bench_that_there_is_not() -> None:
    with pytest.raises(CommandError, match="no such bench: speed"):
        call_command("bench", "speed")


def test_it_says_why_a_bench_has_no_figures() -> None:
    with pytest.raises(CommandError, match="failing: the agent does not run"):
        call_command("bench", "failing")


def test_the_peer_of_the_exposition_tells_the_same_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_fleet, "HOSTS", 2)
    scrapes = metrics.Scrapes()
    changed = scrapes.change(every=1)
    scrapes.tell(changed)
    (at_ms,) = {device["at_ms"] for _, readings in changed for device in readings.values()}
    own, peer = scrapes.body((Names.STEPWATT,)).decode(), generate_latest(metrics.PeerCollector(at_ms)).decode()
    readings = {f"stepwatt_{metric.name}" for metric in gpu_fleet.GIVEN}
    assert _samples(own, readings) == _samples(peer, readings)


def test_each_round_of_the_exposition_changes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_fleet, "HOSTS", 10)
    scrapes = metrics.Scrapes()
    scrapes.tell(scrapes.change(every=1))
    before = scrapes.body((Names.STEPWATT,)).splitlines()
    scrapes.tell(scrapes.change(every=10))
    after = scrapes.body((Names.STEPWATT,)).splitlines()
    changed = {line.partition(b'",')[0] for line, old in zip(after, before, strict=True) if line != old}
    assert {line.partition(b'host="')[2] for line in changed} == {b"gpu-0000"}


def _samples(text: str, names: set[str]) -> set[tuple[str, str, float]]:
    found = [sample for family in read_text(text) for sample in family.samples if sample.name in names]
    assert len(found) == 2 * 8 * len(names)
    return {(sample.name, sample.labels["uuid"], sample.value) for sample in found}
