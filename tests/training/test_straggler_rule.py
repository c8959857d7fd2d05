"""The health rule 'straggler' raised and cleared by the watch, from stored steps."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fleet.models import Event
from telemetry.health import alerts, rules
from telemetry.health.watch import watch
from tests.factories import GPU_READINGS, make_device, make_host, make_latest
from tests.training.stored_steps import columns, enter
from training.models import Run

N_RANKS = 4
pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.fixture
def devices(now):
    host = make_host("gpu-a01", seen_at=now, created_at=now - timedelta(days=1))
    found = [make_device(host, index) for index in range(N_RANKS)]
    make_latest(host, dict.fromkeys(found, GPU_READINGS))
    return found


def tell(devices, until, n_steps, *, slow=None, first=0, told=True, run="llm"):
    """Steps of a second of all ranks up to `until`, rank `slow` 20 % slower in its compute."""
    random = np.random.default_rng(first)
    first_ms = until.timestamp() * 1000 - n_steps * 1000
    for rank, device in enumerate(devices):
        compute = 0.7 * random.normal(1, 0.003, n_steps) * (1.2 if rank == slow else 1.0)
        steps = columns(
            *[1.0] * n_steps, first_ms=first_ms, number=list(range(first, first + n_steps)), rank=[rank] * n_steps,
            compute_seconds=compute if told else [float("nan")] * n_steps,
        )  # fmt: skip
        enter(
            device.host, steps, run=run, rank=rank, process=f"{run}{rank}", devices=(device.uuid,), world_size=N_RANKS
        )


def watched(devices, now, *, seconds=90):
    """Let the watch pass each ten seconds, its host alive."""
    for second in range(0, seconds + 1, 10):
        at = now + timedelta(seconds=second)
        devices[0].host.__class__.objects.update(heard_at=at, last_seen_at=at)
        watch(at)


def stragglers():
    return Event.objects.filter(rule="straggler")


def test_a_straggler_raises_an_alert_on_its_device_and_clears_it(devices, now):
    tell(devices, now, 120)
    tell(devices, now + timedelta(seconds=60), 60, slow=2, first=120)
    watched(devices, now + timedelta(seconds=60))
    event = stragglers().get()
    assert (event.device, event.host, event.resolved_at) == (devices[2], devices[2].host, None)
    assert event.text.startswith("llm: rank 2 (gpu-a01 GPU 2) computes")
    assert "3 GPUs waited" in event.text
    assert event.detail["values"]["gpus_waiting"] == 3
    assert event.detail["values"]["cause"].startswith("no cause seen")

    later = now + timedelta(seconds=200)
    tell(devices, later, 50, first=200)
    watched(devices, later, seconds=150)
    assert stragglers().get().resolved_at is not None


def test_it_is_not_raised_before_it_has_lasted(devices, now):
    tell(devices, now, 60)
    tell(devices, now + timedelta(seconds=60), 60, slow=2, first=60)
    watched(devices, now + timedelta(seconds=60), seconds=40)
    assert not stragglers().exists()


def test_ranks_without_communication_times_neither_raise_nor_clear(devices, now):
    tell(devices, now, 100)
    tell(devices, now + timedelta(seconds=60), 60, slow=2, first=100)
    watched(devices, now + timedelta(seconds=60))
    Run.objects.update(ends_at=now)
    tell(devices, now + timedelta(seconds=400), 240, told=False, run="other")
    watched(devices, now + timedelta(seconds=400), seconds=150)
    assert stragglers().get().resolved_at is None


def test_a_run_that_ended_takes_its_alert_with_it(devices, now):
    tell(devices, now, 100)
    tell(devices, now + timedelta(seconds=60), 60, slow=2, first=100)
    watched(devices, now + timedelta(seconds=60))
    watched(devices, now + timedelta(hours=1), seconds=150)
    assert stragglers().get().resolved_at is not None
    assert not alerts.open_alerts().filter(rule="straggler").exists()


def test_its_words_and_thresholds_stand_among_the_rules():
    rule = rules.by_name()["straggler"]
    assert rule.words == "Straggler"
    assert rule.thresholds["clear_excess_ratio"].value < rule.thresholds["excess_ratio"].value
