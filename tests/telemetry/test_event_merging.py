"""Which events are one row: equal ones close in time, and nothing that would hide another."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.inventory import events
from fleet.models import Event, EventKind
from tests.factories import make_host

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def foreign(*names, task="telemetry.ingest_batch"):
    for name in names:
        text = f"a message under the name {name}, which is not enrolled, was refused"
        events.record(EventKind.FOREIGN_MESSAGE, NOW, text, detail={"task": task, "host": name})


@pytest.mark.parametrize(
    "kind",
    [
        "host_removed",
        "software_changed",
        "cloned_key",
        "cloned_machine",
        "host_joined",
        "device_moved",
        "device_claimed",
    ],
)
def test_events_whose_text_is_what_happened_are_one_only_where_it_is_equal(kind):
    for text in ("one", "another", "one"):
        events.record(EventKind(kind), NOW, text, detail={"of": text})

    found = {(event.text, event.detail["of"], event.count) for event in Event.objects.all()}
    assert found == {("one", "one", 2), ("another", "another", 1)}


def test_events_of_two_hosts_are_two():
    for name in ("gpu-a01", "gpu-a02"):
        events.record(EventKind.XID, NOW, "XID 79", host=make_host(name), code=79)

    assert Event.objects.count() == 2


def test_what_goes_on_for_hours_is_told_again_each_hour():
    for minute in range(0, 180, 5):
        events.record(EventKind.XID, NOW + timedelta(minutes=minute), "XID 31", code=31)

    rows = Event.objects.order_by("first_at")
    assert [event.count for event in rows] == [12, 12, 12]
    assert all(event.last_at - event.first_at < timedelta(hours=1) for event in rows)


def test_messages_under_one_foreign_name_keep_their_text():
    foreign("gpu-z01", "gpu-z01")

    event = Event.objects.get()
    assert (event.count, event.text) == (2, "a message under the name gpu-z01, which is not enrolled, was refused")


def test_foreign_names_do_not_hide_each_other():
    foreign("old-host", "intruder", "old-host", "third")

    event = Event.objects.get()
    assert (event.count, event.detail["hosts"]) == (4, ["old-host", "intruder", "third"])
    assert event.text == "messages under the names old-host, intruder, third were refused"


def test_of_many_foreign_names_a_few_are_kept():
    foreign(*(f"host-{number}" for number in range(30)))

    event = Event.objects.get()
    assert (event.count, len(event.detail["hosts"])) == (30, 20)
    assert event.text == "messages under the names host-0, host-1, host-2 and 17 or more others were refused"
