"""The row of a host's newest readings: written anew without being read, unless somebody else wrote it, or something stays."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from telemetry.message.wire import pack
from telemetry.models import LatestState
from tests.telemetry.batches import GPU, batch, take

T0 = 1_800_000_000_000
NOW = datetime.fromtimestamp(T0 / 1000 + 60, UTC)
OTHER = replace(GPU, uuid="GPU-other", index=1)

pytestmark = pytest.mark.django_db


def watts(at_ms, *values, sequence, devices=(GPU, OTHER)):
    made = batch([at_ms], {}, sequence=sequence)
    take(pack(replace(made, devices=list(devices), columns={"power_draw_watts": [[value] for value in values]})), NOW)


def shown():
    return {uuid: device["values"] for uuid, device in LatestState.objects.get().devices.items()}


def test_what_this_process_wrote_is_not_read_again():
    watts(T0, 1, 2, sequence=0)

    with CaptureQueriesContext(connection) as asked:
        watts(T0 + 1000, 3, 4, sequence=1)

    reads = [each["sql"] for each in asked if each["sql"].startswith("SELECT") and "lateststate" in each["sql"]]
    assert len(reads) == 1
    assert '"devices"' not in reads[0]
    assert shown() == {GPU.uuid: {"power_draw_watts": 3}, OTHER.uuid: {"power_draw_watts": 4}}


def test_a_device_that_is_not_named_any_more_stays():
    watts(T0, 1, 2, sequence=0)

    watts(T0 + 1000, 3, sequence=1, devices=[GPU])
    watts(T0 + 2000, 4, sequence=2, devices=[GPU])

    assert shown() == {GPU.uuid: {"power_draw_watts": 4}, OTHER.uuid: {"power_draw_watts": 2}}


def test_a_device_without_a_value_keeps_when_it_was_read():
    watts(T0, 1, 2, sequence=0)

    watts(T0 + 1000, 3, None, sequence=1)

    assert LatestState.objects.get().devices[OTHER.uuid]["read_ms"] == T0


def test_what_another_process_wrote_stays():
    watts(T0, 1, sequence=0, devices=[GPU])
    row = LatestState.objects.get()
    theirs = {OTHER.uuid: {"at_ms": T0 + 1000, "read_ms": T0 + 1000, "values": {"power_draw_watts": 9}, "absent": {}}}
    LatestState.objects.update(at_ms=T0 + 1000, sequence=1, devices=row.devices | theirs)

    watts(T0 + 2000, 3, sequence=2, devices=[GPU])

    assert shown() == {GPU.uuid: {"power_draw_watts": 3}, OTHER.uuid: {"power_draw_watts": 9}}
