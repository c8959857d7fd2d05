"""What happened stands as marks on the charts: XIDs and drivers as moments, throttling as the time that it lasted."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Event, EventKind, Severity
from telemetry.models import Unreadable
from tests.factories import GPU_READINGS, make_chunks, make_device, make_host, make_latest
from tests.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    host = make_host("gpu-a01")
    make_latest(host, {make_device(host, index): GPU_READINGS for index in range(2)})
    return host


def happened(host, kind: EventKind, *, device=None, minutes_ago: float = 5, code: int | None = None) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    severity = Severity.CRITICAL if code else Severity.INFO
    Event.objects.create(
        kind=kind, severity=severity, host=host, device=device, code=code, text="x", first_at=at, last_at=at
    )


def marks(path: str) -> list[dict]:
    return signed_in().get(path).json()["marks"]


def test_a_host_shows_what_happened_to_it_and_to_each_of_its_devices_in_the_window(host):
    first, second = host.devices.order_by("index")
    happened(host, EventKind.XID, device=first, code=79)
    happened(host, EventKind.XID, device=second, code=13, minutes_ago=600)
    happened(host, EventKind.SOFTWARE_CHANGED, minutes_ago=20)
    happened(host, EventKind.HOST_JOINED)

    found = marks("/fleet/marks/?host=gpu-a01&range=1h")
    assert [(mark["label"], mark["tone"], mark["until"]) for mark in found] == [
        ("GPU 0: XID 79", "crit", None), ("software changed", "text-2", None)
    ]  # fmt: skip


def test_a_device_shows_its_own_and_its_hosts_but_not_its_neighbours(host):
    first, second = host.devices.order_by("index")
    happened(host, EventKind.XID, device=second, code=79)
    happened(host, EventKind.DRIVER_RELEASED)

    assert [mark["label"] for mark in marks(f"/fleet/marks/?host=gpu-a01&device={first.uuid}")] == ["driver let go"]


def test_time_whose_samples_cannot_be_read_is_a_span_on_all_charts(host):
    first, second = host.devices.order_by("index")
    start_ms = round(datetime.now(UTC).timestamp() * 1000) - 1_200_000
    for uuid in (second.uuid, ""):
        Unreadable.objects.create(host=host, uuid=uuid, start_ms=start_ms, end_ms=start_ms + 5000, what="torn")

    viewer, path = signed_in(), "/fleet/marks/?host=gpu-a01"
    of_host, of_device = (viewer.get(each).json()["marks"] for each in (path, f"{path}&device={first.uuid}"))

    assert sorted(mark["label"] for mark in of_host) == ["GPU 1: samples cannot be read", "samples cannot be read"]
    assert [(mark["at"], mark["until"], mark["charts"]) for mark in of_device] == [(start_ms, start_ms + 5000, None)]


def test_marks_of_a_host_that_is_not_there_are_missed():
    viewer = signed_in()
    assert viewer.get("/fleet/marks/?host=nowhere").status_code == 404
    assert viewer.get("/reference/marks/?host=nowhere").status_code == 404


def test_throttling_is_a_span_on_temperature_and_clock(host):
    device = host.devices.order_by("index").first()
    end_ms = int(datetime.now(UTC).timestamp()) // 60 * 60_000
    times = [end_ms - 1000 * back for back in range(600, 0, -1)]
    reasons = [float(0x20) if 200 <= at < 400 else 0.0 for at in range(600)]
    metrics = {
        "temperature_celsius": [[70.0] * 600],
        "clock_event_reasons": [reasons],
        "power_draw_watts": [[300.0] * 600],
    }
    make_chunks(host, [device], times, metrics)

    query = "range=15m&points=900&metric=temperature_celsius&metric=power_draw_watts"
    (mark,) = marks(f"/hosts/gpu-a01/arrays/?{query}&device={device.uuid}")
    assert (mark["label"], mark["charts"]) == ("software thermal slowdown", ["fig-temperature_celsius"])
    assert abs(mark["at"] - times[200]) <= 2000
    assert abs(mark["until"] - times[400]) <= 2000


@pytest.mark.parametrize("points", ["9", "4001", "many", "-5"])
def test_a_number_of_points_that_no_chart_can_have_is_refused(host, points):
    answer = signed_in().get(f"/hosts/gpu-a01/arrays/?metric=power_draw_watts&points={points}")
    assert answer.status_code == 400
