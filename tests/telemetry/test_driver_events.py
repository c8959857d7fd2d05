"""What the driver reports as it happens, and what an agent tells besides telemetry: from the message to the event."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import Event, EventKind, Origin, Severity
from telemetry import tasks
from telemetry.maintenance import retention
from telemetry.message import envelope, notices, wire
from telemetry.message.notices import NOTICE_TASK, Notice, NoticeKind
from telemetry.message.wire import DeviceEvent, MessageInvalid
from telemetry.message.wire import EventKind as DriverEvent
from telemetry.receiving.ingest import ingest
from telemetry.receiving.reported import ingest_notice
from tests.factories import make_host
from tests.telemetry import batches
from tests.telemetry.batches import GPU, MIG, NODE, enrolled, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
T0 = NOW_MS - 5000
NINE_STATEMENTS = 9  # what a batch cost before there were parts, events and lives of agents

pytestmark = pytest.mark.django_db


def batch(*happened, sequence=0, now=NOW, **kwargs):
    return take(
        payload([T0 + 1000 * sequence], {"power_draw_watts": [300]}, sequence=sequence, events=happened, **kwargs), now
    )


def xid(code, at_ms=T0, count=1):
    return DeviceEvent(GPU.uuid, DriverEvent.XID, code, at_ms, count)


def notice(number=1, at_ms=T0, host="gpu-a01", count=1):
    return notices.pack(Notice(f"{number:032x}", host, NoticeKind.DRIVER_RELEASED, at_ms, "let go for 10 min", count))


def test_an_xid_is_an_event_of_its_device_at_the_hosts_time():
    batch(xid(79, T0 - 90_000))

    event = Event.objects.get()
    assert (event.kind, event.code, event.device.uuid, event.host.name) == ("xid", 79, GPU.uuid, "gpu-a01")
    assert (event.text, event.severity) == ("XID 79: GPU has fallen off the bus", "critical")
    assert event.first_at == datetime.fromtimestamp((T0 - 90_000) / 1000, UTC)
    assert event.detail["action"].startswith("drain the host and power-cycle it")


def test_an_applications_own_fault_is_no_alarm():
    batch(xid(31))

    assert Event.objects.get().severity == Severity.INFO


def test_equal_events_are_counted_and_others_stand_alone():
    batch(xid(31, count=4), xid(31, count=3), xid(43))

    assert {(event.code, event.count) for event in Event.objects.all()} == {(31, 7), (43, 1)}


def test_a_clock_change_names_its_reasons():
    batch(DeviceEvent(GPU.uuid, DriverEvent.CLOCK, 0x24, T0, 2))

    event = Event.objects.get()
    assert (event.kind, event.text) == ("clock", "clocks changed; reasons: power cap, software thermal slowdown")


def test_a_redelivered_batch_adds_no_event():
    batch(xid(79))
    batch(xid(79))

    assert [event.count for event in Event.objects.all()] == [1]


def test_an_event_from_the_future_happened_now():
    batch(xid(79, NOW_MS + 86_400_000))

    assert Event.objects.get().last_at == NOW


@pytest.mark.parametrize("minutes", [9, 20])
def test_a_batch_that_comes_again_is_silent(minutes):
    batch()

    assert not batch(now=NOW + timedelta(minutes=minutes))
    assert not Event.objects.exists()


def test_a_notice_is_an_event():
    assert ingest_notice(enrolled(), notice(), NOW)

    event = Event.objects.get()
    assert (event.kind, event.text, event.host.name) == ("driver_released", "let go for 10 min", "gpu-a01")
    assert event.first_at == datetime.fromtimestamp(T0 / 1000, UTC)


def test_a_notice_counts_once_however_often_it_comes():
    for number in (1, 2, 1, 2):
        ingest_notice(enrolled(), notice(number), NOW)

    assert Event.objects.get().count == 2


def test_a_notice_that_tells_of_several_counts_them():
    for number, count in ((1, 1), (2, 60)):
        ingest_notice(enrolled(), notice(number, count=count), NOW)

    assert Event.objects.get().count == 61


@pytest.mark.parametrize("count", [0, -1, 10**12, "many"])
def test_a_notice_of_no_possible_number_is_refused(count):
    with pytest.raises(MessageInvalid, match="count"):
        ingest_notice(enrolled(), notice(count=count), NOW)


def test_a_notice_that_comes_again_much_later_is_an_event():
    for minutes in (0, 20):
        ingest_notice(enrolled(), notice(1), NOW + timedelta(minutes=minutes))

    event = Event.objects.get(kind=EventKind.REPLAYED_MESSAGE)
    assert event.text == "a notice that was stored before came again, 20 min after it was sent"
    assert event.detail["notice"] == f"{1:032x}"


def test_a_notice_whose_event_is_long_deleted_has_no_effect():
    assert not ingest_notice(enrolled(), notice(1), NOW + timedelta(days=91))
    assert [event.kind for event in Event.objects.all()] == [EventKind.REPLAYED_MESSAGE]


def test_no_notice_is_forgotten_where_two_rows_lie_near():
    minutes = [9 * n for n in range(8)]  # more than an hour: two rows
    told = [notice(n, T0 - 60_000 * (70 - minute)) for n, minute in enumerate(minutes)]
    for body in told + told[3:4] + told:
        ingest_notice(enrolled(), body, NOW)

    counts = Event.objects.filter(kind=EventKind.DRIVER_RELEASED).values_list("count", flat=True)
    assert (sum(counts), len(counts)) == (8, 2)


def test_a_count_that_no_driver_gives_is_cut():
    for sequence in range(3):
        batch(xid(31, count=2**31 - 1), sequence=sequence)

    assert Event.objects.get().count == 3_000_000


def test_a_notice_is_believed_only_from_the_key_that_joined(caplog):
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    enrolled(public_key=key.public_key().public_bytes_raw())
    tasks.ingest_notice(envelope.seal(stranger, NOTICE_TASK, "gpu-a01", notice(1)))
    tasks.ingest_notice(envelope.seal(key, NOTICE_TASK, "gpu-a01", notice(2)))

    assert set(Event.objects.values_list("kind", flat=True)) == {"forged_message", "driver_released"}
    assert "a notice was refused" in caplog.text


def test_a_notice_in_another_hosts_name_is_refused():
    with pytest.raises(MessageInvalid, match="gpu-a02 sent a message that names gpu-a01"):
        ingest_notice(enrolled("gpu-a02"), notice(), NOW)
    assert not Event.objects.exists()


def test_a_batch_of_a_steady_host_costs_no_more_statements_than_before():
    for sequence in range(2):
        batch(sequence=sequence, others=[MIG, NODE])
    host = enrolled()
    steady = batches.batch([T0 + 2000], {"power_draw_watts": [300]}, sequence=2, others=[MIG, NODE])
    body = wire.pack(replace(steady, software=None))  # it came with the first batch
    with CaptureQueriesContext(connection) as captured:
        ingest(host, body, NOW)

    statements = [q["sql"] for q in captured.captured_queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(statements) <= NINE_STATEMENTS, statements


def test_events_are_kept_as_long_as_the_minute_rollups():
    recorded = make_host("recorded", origin=Origin.IMPORTED)
    live = make_host("live")
    for host, days in ((live, 91), (live, 89), (recorded, 91), (None, 91)):
        at = NOW - timedelta(days=days)
        Event.objects.create(kind="xid", severity="info", host=host, text=f"{days}", first_at=at, last_at=at)

    retention.retire(NOW, time.monotonic() + 600)

    assert {(event.host.name, event.text) for event in Event.objects.all()} == {("live", "89"), ("recorded", "91")}
