"""A host whose wall clock was right and is set back: what it sends then is shown at once, and what comes late is not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Device, Host
from telemetry.newest import queries
from telemetry.newest.fleet_state import DeviceState
from tests.telemetry.batches import GPU, payload, take

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
BACK_MS = 600_000
POWER = "power_draw_watts"
OTHER = replace(GPU, uuid="GPU-2", index=1)


def send(sequence: int, at_ms: int, watts: float, now: datetime = NOW, **kwargs: object) -> None:
    take(payload([at_ms], {POWER: [watts]}, sequence=sequence, **kwargs), now)


def shown(now: datetime = NOW) -> DeviceState:
    return queries.device_state(Device.objects.select_related("host").get(uuid=GPU.uuid), now)


def test_its_new_readings_take_the_place_of_those_that_seem_newer() -> None:
    send(0, MS, 100.0)
    send(1, MS + 5000 - BACK_MS, 700.0, NOW + timedelta(seconds=5), segment=1)

    assert shown(NOW + timedelta(seconds=5)).values == {POWER: 700.0}
    assert Host.objects.get().last_seen_at == NOW + timedelta(milliseconds=5000 - BACK_MS)


def test_a_batch_from_before_that_comes_late_is_not_shown() -> None:
    send(1, MS - BACK_MS, 700.0, segment=1)
    send(0, MS, 100.0)

    assert shown().values == {POWER: 700.0}
    assert Host.objects.get().last_seen_at == NOW - timedelta(milliseconds=BACK_MS)


def test_an_agent_that_was_started_anew_meanwhile_is_shown_with_its_second_batch() -> None:
    send(0, MS - 2 * BACK_MS, 90.0)
    send(1, MS, 100.0)
    send(0, MS - BACK_MS, 600.0, epoch="b" * 32)
    send(1, MS - BACK_MS + 5000, 700.0, epoch="b" * 32)

    assert shown().values == {POWER: 700.0}


def test_what_the_host_tells_of_its_software_is_taken_too() -> None:
    send(0, MS, 100.0, software={"driver": "570"})
    send(1, MS - BACK_MS, 100.0, software={"driver": "580"}, segment=1)

    assert Host.objects.get().software == {"driver": "580"}


def test_a_device_that_was_last_named_before_is_silent() -> None:
    send(0, MS, 100.0)
    send(1, MS - BACK_MS, 0.5, device=OTHER, segment=1)

    assert shown().health == "silent"
