"""What goes when: by age, by the disk limit, and never of recorded hosts."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet import slices
from fleet.models import Event, EventKind, Origin, Severity
from telemetry.maintenance import disk_limit, retention, upkeep
from telemetry.models import (
    Chunk,
    Delivery,
    DirtyRollup,
    GroupRollup,
    MaintenanceRun,
    NotificationTarget,
    Rollup,
    RollupGroup,
    SetAside,
    StoredBatch,
    TableFigures,
)
from telemetry.store import shortened
from tests.factories import make_device, make_host

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAYS = {"raw": 7, "minutes": 90}


def ms(days_ago):
    return int((NOW - timedelta(days=days_ago)).timestamp() * 1000)


def keep_batch(host, days_ago, sequence=0):
    return StoredBatch.objects.create(
        host=host, start_ms=ms(days_ago), end_ms=ms(days_ago) + 4000, epoch="0" * 32, sequence=sequence, body=b"x"
    )


def keep_chunk(device, days_ago, body=b"x"):
    return Chunk.objects.create(
        device=device, host=device.host, start_ms=ms(days_ago), end_ms=ms(days_ago) + 1, n_values=1, body=body
    )


def retire():
    return retention.retire(NOW, time.monotonic() + 600)


@pytest.fixture
def gpu():
    return make_device(make_host("gpu-a01"))


def test_samples_go_after_their_retention(gpu):
    keep_batch(gpu.host, 6), keep_batch(gpu.host, 8, sequence=1)
    keep_chunk(gpu, 6), keep_chunk(gpu, 8)

    assert retire() == 2

    assert [row.start_ms for row in (*StoredBatch.objects.all(), *Chunk.objects.all())] == [ms(6), ms(6)]


def test_samples_stay_until_the_last_of_their_row_is_old(gpu):
    begin, end = ms(7) - 1_800_000, ms(7) + 1_800_000
    Chunk.objects.create(device=gpu, host=gpu.host, start_ms=begin, end_ms=end, n_values=1, body=b"x")
    StoredBatch.objects.create(host=gpu.host, start_ms=begin, end_ms=end, epoch="0" * 32, sequence=0, body=b"x")

    assert retire() == 0
    assert retention.retire(NOW + timedelta(minutes=31), time.monotonic() + 600) == 2


def test_statistics_go_by_their_own_retention_each(gpu):
    for step in (60, 900, 3600):
        for days_ago in (80, 100, 400):
            Rollup.objects.create(host=gpu.host, step_seconds=step, start_ms=ms(days_ago), n_buckets=1, body=b"")

    retire()

    left = Rollup.objects.order_by("step_seconds", "-start_ms").values_list("step_seconds", "start_ms")
    assert list(left) == [(60, ms(80)), (900, ms(80)), (900, ms(100)), (3600, ms(80)), (3600, ms(100)), (3600, ms(400))]


def test_what_was_recorded_is_kept_whatever_its_age():
    recorded = make_device(make_host("recorded", origin=Origin.IMPORTED))
    keep_batch(recorded.host, 4000), keep_chunk(recorded, 4000)
    Event.objects.create(kind=EventKind.XID, severity="info", host=recorded.host, text="", first_at=NOW, last_at=NOW)
    Event.objects.update(last_at=NOW - timedelta(days=4000))

    assert retire() == 0


def test_sessions_go_when_they_have_ended():
    for key, left in (("ended", -1), ("holds", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=NOW + timedelta(seconds=left))

    retire()

    assert Session.objects.get().session_key == "holds"


def test_an_open_alert_stays_until_it_is_resolved(gpu):
    old = NOW - timedelta(days=DAYS["minutes"] + 1)
    fields = {
        "kind": EventKind.HEALTH,
        "severity": Severity.WARNING,
        "rule": "hot_memory",
        "first_at": old,
        "last_at": old,
    }
    Event.objects.create(subject="open", **fields)
    Event.objects.create(subject="resolved", resolved_at=old, **fields)

    retire()

    assert [event.subject for event in Event.objects.all()] == ["open"]


@pytest.mark.parametrize(
    ("received_days_ago", "ended_days_ago", "stays"),
    [
        (29, 29, True),
        (31, 31, False),
        (29, 60, True),  # came late
        (400, 5, True),  # the server's clock was slow by a year
        (400, 31, False),
        (31, -4000, False),  # the host's clock is ahead by years
    ],
)
def test_what_was_set_aside_is_kept_for_a_month_by_whichever_clock_was_right(
    gpu, received_days_ago, ended_days_ago, stays
):
    SetAside.objects.create(
        host=gpu.host, epoch="0" * 32, sequence=1, start_ms=0, end_ms=ms(ended_days_ago), n_values=1, reason="", body=b"",
        received_at=NOW - timedelta(days=received_days_ago),
    )  # fmt: skip

    retire()

    assert SetAside.objects.exists() == stays


def test_what_was_set_aside_is_kept_as_long_as_samples_where_these_are_kept_longer(gpu, settings):
    settings.STEPWATT_RETENTION_RAW = 100 * 86_400
    SetAside.objects.create(
        host=gpu.host, epoch="0" * 32, sequence=1, start_ms=0, end_ms=ms(90), n_values=1, reason="", body=b"",
        received_at=NOW - timedelta(days=90),
    )  # fmt: skip

    assert retire() == 0


def test_joined_statistics_go_when_their_last_bucket_is_old(gpu):
    for days_ago in (110, 130):  # each of 30 days
        Rollup.objects.create(host=gpu.host, step_seconds=60, start_ms=ms(days_ago), n_buckets=30 * 1440, body=b"")

    retire()

    assert [row.start_ms for row in Rollup.objects.all()] == [ms(110)]


def test_joined_statistics_of_groups_go_when_their_last_bucket_is_old():
    group = RollupGroup.objects.create(kind="fleet", devices="accelerator")
    for days_ago in (110, 130):
        GroupRollup.objects.create(group=group, step_seconds=60, start_ms=ms(days_ago), n_buckets=30 * 1440, body=b"")

    assert retention.retire_groups(NOW, time.monotonic() + 600) == 1


def test_samples_wait_a_day_for_the_statistics_that_are_to_be_made_of_them(gpu):
    keep_chunk(gpu, 7.5), keep_chunk(gpu, 9)
    DirtyRollup.objects.create(host=gpu.host, step_seconds=60, start_ms=ms(7.5))

    retire()

    assert [chunk.start_ms for chunk in Chunk.objects.all()] == [ms(7.5)]


def test_groups_statistics_go_too():
    group = RollupGroup.objects.create(kind="fleet", devices="accelerator")
    for days_ago in (80, 100):
        GroupRollup.objects.create(group=group, step_seconds=60, start_ms=ms(days_ago), n_buckets=1, body=b"")

    assert retention.retire_groups(NOW, time.monotonic() + 600) == 1


def test_retention_ends_at_its_deadline_and_goes_on_in_the_next_run(gpu):
    keep_chunk(gpu, 8)

    assert retention.retire(NOW, time.monotonic() - 1) == 0
    assert retire() == 1


@pytest.fixture
def kilobyte(monkeypatch):
    """A database of 1,000 bytes: the tests' own lies in memory."""
    for name in ("database_bytes", "held_bytes"):
        monkeypatch.setattr(disk_limit.vendor_sql, name, lambda: 1000)


def test_without_a_limit_nothing_is_shortened(gpu):
    keep_chunk(gpu, 6)

    assert disk_limit.keep(NOW, time.monotonic() + 600) == ""


def test_a_limit_that_is_near_is_warned_of_before_anything_goes(gpu, settings, kilobyte):
    keep_chunk(gpu, 6)
    settings.STEPWATT_DISK_LIMIT = 1050

    disk_limit.keep(NOW, time.monotonic() + 600)

    assert "beyond the limit the oldest raw samples will go" in Event.objects.get(kind=EventKind.DISK_LIMIT).text
    assert Chunk.objects.count() == 1


def test_beyond_the_limit_the_oldest_samples_go_first_and_the_last_day_stays(gpu, settings, kilobyte):
    keep_chunk(gpu, 6), keep_chunk(gpu, 3), keep_chunk(gpu, 0.5)
    Rollup.objects.create(host=gpu.host, step_seconds=60, start_ms=ms(6), n_buckets=1, body=b"")
    settings.STEPWATT_DISK_LIMIT = 900

    words = disk_limit.keep(NOW, time.monotonic() + 600)

    assert [chunk.start_ms for chunk in Chunk.objects.all()] == [ms(0.5)]
    assert Rollup.objects.count() == 1
    assert "chunk went before their time" in words
    assert shortened.samples_before_ms() == ms(2)


def test_where_the_time_is_up_that_is_said_and_not_that_nothing_is_left(gpu, settings, kilobyte):
    keep_chunk(gpu, 6)
    settings.STEPWATT_DISK_LIMIT = 900

    words = disk_limit.keep(NOW, time.monotonic() - 1)

    assert Chunk.objects.count() == 1
    assert "the run's time was up before anything went" in words


def test_statistics_that_cannot_be_made_do_not_hold_the_disk(gpu, settings, kilobyte):
    keep_chunk(gpu, 6)
    DirtyRollup.objects.create(host=gpu.host, step_seconds=60, start_ms=ms(6))
    settings.STEPWATT_DISK_LIMIT = 900

    disk_limit.keep(NOW, time.monotonic() + 600)

    assert not Chunk.objects.exists()


def test_large_rows_go_a_few_at_a_time(gpu, monkeypatch):
    monkeypatch.setattr(slices, "MOST_BYTES", 2500)
    for hour in range(5):
        keep_chunk(gpu, 8 + hour / 24, body=b"x" * 1000)

    with CaptureQueriesContext(connection) as asked:
        assert retire() == 5

    deletions = [each["sql"] for each in asked if each["sql"].startswith("DELETE FROM telemetry_chunk")]
    assert len(deletions) == 3


def test_the_log_of_an_open_alert_is_kept_so_that_it_is_told_once(gpu):
    old = NOW - timedelta(days=DAYS["minutes"] + 1)
    target = NotificationTarget.objects.create(name="on call", kind="webhook", address="http://hook.example")
    for subject, resolved_at in (("open", None), ("just over", NOW), ("long over", old)):
        event = Event.objects.create(
            kind=EventKind.HEALTH, severity=Severity.WARNING, rule="hot_memory", subject=subject,
            first_at=old, last_at=NOW, resolved_at=resolved_at,
        )  # fmt: skip
        Delivery.objects.create(target=target, event=event, reason="firing", created_at=old, delivered_at=old)

    retire()

    assert {each.event.subject for each in Delivery.objects.all()} == {"open", "just over"}


def test_each_part_of_the_upkeep_notes_its_run(gpu):
    keep_chunk(gpu, 8)

    upkeep.keep(NOW, 5)

    assert MaintenanceRun.objects.get(name="retention").done == 1
    assert TableFigures.objects.get(table="telemetry_chunk").n_rows == 0


def test_a_part_that_fails_is_noted_and_the_others_have_their_turn(gpu, monkeypatch):
    monkeypatch.setattr(disk_limit, "keep", lambda *_: (_ for _ in ()).throw(OSError("no such disk")))

    with pytest.raises(OSError, match="no such disk"):
        upkeep.keep(NOW, 5)

    assert MaintenanceRun.objects.get(name="disk limit").note == "failed: OSError: no such disk"
    assert MaintenanceRun.objects.filter(name="counting").exists()
