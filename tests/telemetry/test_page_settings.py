"""The settings page of the store: what its tables hold, what its upkeep does, what was set aside."""

import csv
from datetime import datetime, timedelta
from io import StringIO

import pytest
from celery import current_app
from django.core.management import call_command
from django.utils import timezone

from fleet.models import Role
from telemetry.maintenance import upkeep
from telemetry.models import SetAside, StoredBatch, Unreadable
from tests.factories import make_device, make_host
from tests.people import signed_in

pytestmark = pytest.mark.django_db


def table(name):
    """Return the rows of the page's table as its file has them."""
    file = signed_in().get(f"/settings/?format=csv&table={name}").content.decode()
    return list(csv.DictReader(StringIO(file)))


def page(role=Role.VIEWER):
    answer = signed_in(role).get("/settings/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_before_the_first_upkeep_it_says_so():
    assert "None has run yet." in page()


def test_it_shows_what_the_tables_hold_and_when_upkeep_runs_next():
    upkeep.keep(timezone.now(), 5)

    shown = page()

    assert "Samples, by device and hour" in shown
    assert "Space given back" in shown
    assert "not scheduled" not in shown


def test_each_table_has_its_rows_its_size_its_oldest_and_how_long_it_keeps_them(settings):
    settings.STEPWATT_RETENTION_RAW = 5 * 86_400
    now = timezone.now()
    host, oldest = make_host("gpu-a01"), int(now.timestamp() * 1000) - 3_600_000
    bodies = (b"x" * 3_000, b"x" * 2_000)
    StoredBatch.objects.bulk_create(
        StoredBatch(host=host, epoch="e" * 32, sequence=n, start_ms=oldest + n, end_ms=oldest + n, body=body)
        for n, body in enumerate(bodies)
    )
    upkeep.count(now)

    rows = {row["holds"]: row for row in table("store")}
    batches = rows["Batches as they came"]

    assert (batches["rows"], batches["bytes"]) == ("2", "5000")
    assert datetime.fromisoformat(batches["oldest"]).timestamp() * 1000 == oldest
    assert batches["kept"] == "5 days (STEPWATT_RETENTION_RAW)"
    assert rows["Samples, by device and hour"]["rows"] == "0"
    assert rows["Set aside, in no figure"]["kept"] == "30 days (STEPWATT_RETENTION_RAW, at least 30)"


def test_each_part_of_the_upkeep_has_its_last_run_and_the_next_by_the_schedule():
    now = timezone.now()
    upkeep.keep(now, 5)
    turns = current_app.conf.beat_schedule.values()
    every = next(turn["schedule"] for turn in turns if turn["task"] == "telemetry.retire")

    rows = {row["what"]: row for row in table("upkeep")}

    assert rows.keys() >= {"partitions", "retention", "disk limit", "space given back", "counting"}
    for row in rows.values():
        assert datetime.fromisoformat(row["started_at"]) == now
        assert datetime.fromisoformat(row["next_at"]) == now + timedelta(seconds=every)


def test_a_verification_is_run_by_a_person_and_has_no_next_time():
    call_command("verify_store", stdout=StringIO())

    shown = page()

    assert "Verification" in shown
    assert "not scheduled" in shown


def test_it_shows_what_was_set_aside_and_why():
    SetAside.objects.create(
        host=make_host("gpu-a01"), epoch="0" * 32, sequence=1, start_ms=0, end_ms=0, n_values=2000, body=b"",
        reason="90 s ahead of the server", received_at=timezone.now(),
    )  # fmt: skip

    assert "90 s ahead of the server" in page()


def test_it_shows_what_cannot_be_read_also_as_csv():
    device = make_device(make_host("gpu-a01"), 3)
    Unreadable.objects.create(host=device.host, uuid=device.uuid, start_ms=0, end_ms=3_600_000, what="no checksum fits")

    viewer = signed_in()
    shown, file = (viewer.get(f"/settings/{query}").content.decode() for query in ("", "?format=csv&table=unread"))

    assert "GPU 3" in shown
    assert "no checksum fits" in shown
    assert f"gpu-a01,{device.uuid},1970-01-01T00:00:00" in file
