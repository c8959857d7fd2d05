"""Rows of many hours: how long they are fits both databases' numbers."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from telemetry.maintenance import retention
from telemetry.models import GroupRollup, Rollup, RollupGroup
from telemetry.store import made_hours
from telemetry.store.made_hours import HOUR_MS, Part
from tests.factories import make_host

NOW = datetime(2035, 11, 20, 12, tzinfo=UTC)  # beyond the partitions of these days: rows lie in the rest
DAYS_30, DAYS_90 = 30 * 24, 90 * 24


def ago(days):
    return int((NOW - timedelta(days=days)).timestamp() * 1000)


def test_a_month_of_hours_is_made_to_its_end(each_database):
    host = make_host()
    Rollup.objects.create(host=host, step_seconds=3600, start_ms=ago(30), n_buckets=DAYS_30, body=b"")

    ((hosts, parts),) = made_hours.parts([host.pk], ago(30), ago(0) + HOUR_MS)

    assert hosts == [host.pk]
    assert parts == [Part(ago(30), ago(0), is_made=True), Part(ago(0), ago(0) + HOUR_MS, is_made=False)]


@pytest.mark.parametrize(("days_ago", "stays"), [(31, False), (29, True)])
def test_a_month_of_hours_goes_when_its_end_is_old(each_database, settings, days_ago, stays):
    settings.STEPWATT_RETENTION_1H = 86_400
    fields = {"step_seconds": 3600, "start_ms": ago(days_ago), "body": b""}
    Rollup.objects.create(host=make_host(), n_buckets=DAYS_30, **fields)
    group = RollupGroup.objects.create(kind="fleet", devices="accelerator")
    GroupRollup.objects.create(group=group, n_buckets=DAYS_30, **fields)
    GroupRollup.objects.create(group=group, n_buckets=DAYS_90, **(fields | {"start_ms": ago(days_ago + 60)}))

    retention.retire(NOW, time.monotonic() + 600)
    retention.retire_groups(NOW, time.monotonic() + 600)

    assert Rollup.objects.exists() == stays
    assert GroupRollup.objects.count() == 2 * stays
