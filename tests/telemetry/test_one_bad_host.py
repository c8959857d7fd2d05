"""What breaks at one host, or at one target, keeps the upkeep of no other back, and the task is known to have failed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Host
from fleet.turns import TurnFailed
from telemetry import rollups
from telemetry.health.watch import watch
from telemetry.models import Chunk, DirtyRollup, GroupRollup, MaintenanceRun, Rollup
from telemetry.rollups import joining
from telemetry.store import compact, host_hour, inputs
from tests.factories import GPU_READINGS, make_device, make_host, make_latest
from tests.telemetry.batches import GPU, payload, take
from tests.telemetry.watched import firing

NOW = datetime.now(UTC)
T0 = int(NOW.timestamp()) // 3600 * 3_600_000 - 3 * 3_600_000

pytestmark = pytest.mark.django_db


@pytest.fixture
def bad():
    """Two hosts with an hour of samples, of which the first is the bad one."""
    for name in ("bad", "good"):
        times = [T0 + 10_000 * n for n in range(360)]
        device = replace(GPU, uuid=f"GPU-{name}")
        take(payload(times, {"power_draw_watts": [300.0] * 360}, host=name, device=device, sample_seconds=10.0), NOW)
    return Host.objects.get(name="bad")


def failing_for(host, real):
    """Return `real`, which fails for the host that it is given first, or for its id."""

    def failing(*given):
        if given[0] in (host, host.pk):
            raise ValueError("broken")
        return real(*given)

    return failing


def test_the_minutes_of_the_others_are_made(bad, monkeypatch):
    monkeypatch.setattr(inputs, "statistics_of", failing_for(bad, inputs.statistics_of))
    with pytest.raises(TurnFailed, match="broken"):
        rollups.roll_up(60)

    assert set(Rollup.objects.values_list("host__name", flat=True)) == {"good"}
    assert GroupRollup.objects.exists()
    assert DirtyRollup.objects.filter(host=bad, step_seconds=60).count() >= 60


@pytest.mark.parametrize("name", ["rollups", "rollups joined"])
def test_what_was_done_for_the_others_is_noted_beside_the_failure(bad, monkeypatch, name):
    if name == "rollups":
        monkeypatch.setattr(inputs, "statistics_of", failing_for(bad, inputs.statistics_of))
        work, words = rollups.roll_up, "making the minutes of host: "
    else:
        rollups.roll_up(60)
        real, given = joining._periods, (Rollup, "host", bad.pk)
        monkeypatch.setattr(joining, "_periods", lambda *args: 1 / 0 if args[:3] == given else real(*args))
        work, words = rollups.join, "joining the rollups of: 1 failed"
    with pytest.raises(TurnFailed):
        work(60)

    run = MaintenanceRun.objects.get(name=name)
    assert run.done >= 60
    assert words in run.note


def test_more_marks_than_are_looked_at_once_keep_no_older_ones_back(bad, monkeypatch):
    monkeypatch.setattr(rollups.minutes, "_MARKS", 20)
    monkeypatch.setattr(inputs, "statistics_of", failing_for(bad, inputs.statistics_of))
    with pytest.raises(TurnFailed):
        rollups.roll_up(60)

    assert not DirtyRollup.objects.filter(host__name="good", step_seconds=60).exists()


def test_the_rollups_of_the_others_are_joined(bad, monkeypatch):
    rollups.roll_up(60)
    real = joining._periods

    def failing(model, owner, pk, now_ms):
        return 1 / 0 if (owner, pk) == ("host", bad.pk) else real(model, owner, pk, now_ms)

    monkeypatch.setattr(joining, "_periods", failing)
    with pytest.raises(TurnFailed, match="ZeroDivisionError"):
        rollups.join(60)

    assert Rollup.objects.filter(host__name="good", step_seconds=60).count() == 1
    assert GroupRollup.objects.exclude(n_buckets=1).exists()


def test_rollups_of_a_host_that_is_removed_while_they_are_joined_are_passed_over(bad, monkeypatch):
    rollups.roll_up(60)
    periods = list(joining._periods(Rollup, "host", bad.pk, int(NOW.timestamp() * 1000)))
    pk = bad.pk
    bad.delete()

    # Of the minutes' period and, in the first hours of a day, of the quarters' that is over.
    assert periods
    assert {joining._join(Rollup, "host", pk, step, (at, at + length)) for step, at, length in periods} == {0}


def test_the_hours_of_the_others_become_chunks(bad, monkeypatch):
    monkeypatch.setattr(host_hour, "compact", failing_for(bad, host_hour.compact))
    with pytest.raises(TurnFailed, match="broken"):
        compact.compact(NOW, 60)

    assert set(Chunk.objects.values_list("host__name", flat=True)) == {"good"}
    assert "compacting: 1 failed" in MaintenanceRun.objects.get(name=compact.RUN).note


def test_the_others_are_judged_and_of_the_bad_one_nothing_is_said():
    hosts = {name: make_host(name, seen_at=NOW) for name in ("bad", "good")}
    temperature = {"bad": "99", "good": 99.0}
    for name, host in hosts.items():
        make_latest(host, {make_device(host): GPU_READINGS | {"memory_temperature_celsius": temperature[name]}})
    for seconds in range(0, 600, 10):
        now = NOW + timedelta(seconds=seconds)
        Host.objects.update(heard_at=now, last_seen_at=now)
        with pytest.raises(TurnFailed, match="judging: 1 failed"):
            watch(now)

    assert [subject for rule, subject in firing() if rule == "hot_memory"] == [
        f"device:{hosts['good'].devices.get().uuid}"
    ]
