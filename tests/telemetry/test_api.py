"""Telemetry's part of the HTTP API, over batches as agents send them. Sign-in and roles: tests/fleet/test_api.py."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from fleet.models import Host, Origin
from telemetry import catalog
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceKind
from tests.people import script
from tests.telemetry.batches import GPU, NODE, payload, take
from tests.telemetry.watched import watch_for

pytestmark = pytest.mark.django_db

CPU = DeviceInfo("CPU-1", DeviceKind.CPU, 0, "EPYC 9654", "", "")
H200 = DeviceInfo("GPU-2", DeviceKind.NVIDIA, 0, "NVIDIA H200", "00000000:08:00.0", "580.105.08")
MINUTE_AGO = timedelta(minutes=1)


@pytest.fixture
def api():
    client = script()

    def get(path, **parameters):
        response = client.get(f"/api/v1/{path}", parameters)
        return response.status_code, response.json()

    return get


def report(columns, *, ago=timedelta(), ticks=1, **kwargs):
    """Store a batch whose last tick is `ago`; returns the first tick's time in ms."""
    now = timezone.now()
    last = int((now - ago).timestamp()) * 1000
    times = [last - 1000 * (ticks - 1 - n) for n in range(ticks)]
    take(payload(times, {name: [value] * ticks for name, value in columns.items()}, **kwargs), now - ago)
    return times[0]


def error(answer):
    status, body = answer
    return status, body["error"]["code"], body["error"].get("field")


@pytest.fixture
def fleet():
    """Host a (H100, cluster north, team nlp) reports, host b (H200, south, vision) is silent, c never spoke."""
    report({"power_draw_watts": 400.0, "gpu_utilization_ratio": 0.5}, host="a")
    report({"power_draw_watts": 700.0}, host="b", device=H200, ago=2 * MINUTE_AGO)
    Host.objects.create(name="c", cluster="south")
    Host.objects.filter(name="a").update(cluster="north", labels={"team": "nlp"})
    Host.objects.filter(name="b").update(cluster="south", labels={"team": "vision"})


def names(answer):
    status, body = answer
    assert (status, body["count"]) == (200, len(body["items"]))
    return [item.get("name") or item["uuid"] for item in body["items"]]


def test_a_host_shows_its_health_and_power(api, fleet):
    _, answer = api("hosts")

    host = answer["items"][0]
    assert host["name"] == "a"
    assert (host["cluster"], host["labels"], host["origin"]) == ("north", {"team": "nlp"}, "real")
    assert (host["health"], host["device_count"]) == ("ok", 1)
    assert host["readings"]["power_draw_watts"] == {"value": 400.0, "unit": "watts", "reason": None}


def test_a_silent_host_has_no_power_rather_than_none_at_all(api, fleet):
    _, answer = api("hosts")

    assert answer["items"][1]["readings"]["power_draw_watts"] == {"value": None, "unit": "watts", "reason": "silent"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"cluster": "south"}, ["b", "c"]),
        ({"label": "team=nlp"}, ["a"]),
        ({"label": ["team=nlp", "rack=7"]}, []),
        ({"state": "silent"}, ["b", "c"]),
        ({"model": "NVIDIA H200"}, ["b"]),
        ({"cluster": "south", "model": "NVIDIA H100 80GB HBM3"}, []),
    ],
)
def test_hosts_are_filtered(api, fleet, parameters, expected):
    assert names(api("hosts", **parameters)) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, [GPU.uuid, "GPU-2"]), ({"cluster": "north"}, [GPU.uuid]), ({"state": "silent"}, ["GPU-2"])],
)
def test_devices_are_filtered(api, fleet, parameters, expected):
    assert names(api("devices", **parameters)) == expected


def test_a_list_is_read_page_by_page(api, fleet):
    _, answer = api("hosts", limit=1, offset=1)

    assert ([item["name"] for item in answer["items"]], answer["count"]) == (["b"], 3)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"offset": -1}, "offset"),
        ({"state": "fine"}, "state"),
        ({"label": "nlp"}, "label"),
    ],
)
def test_a_bad_filter_is_named(api, parameters, field):
    assert error(api("hosts", **parameters)) == (400, "invalid", field)


def test_a_host_shows_its_devices_and_its_software(api, fleet):
    _, host = api("hosts/a")

    assert host["software"] == {"driver": "580.105.08"}
    assert [device["uuid"] for device in host["devices"]] == [GPU.uuid]


def test_a_host_shows_what_its_agent_costs_apart_from_its_devices(api):
    report({"agent_resident_bytes": 61_440_000, "power_draw_watts": 900.0}, device=NODE, others=[GPU])

    _, host = api("hosts/gpu-a01")

    assert host["agent"] == {"agent_resident_bytes": 61_440_000}
    assert (host["device_count"], host["readings"]["power_draw_watts"]["value"]) == (1, 900)


def test_a_host_that_nobody_knows_is_an_error(api):
    assert error(api("hosts/nobody")) == (404, "not_found", "name")


def test_a_device_shows_every_metric_of_the_catalogue_or_why_it_has_none(api):
    report({"power_draw_watts": 400.0}, absent={"fan_speed_ratio": AbsentReason.NOT_SUPPORTED})

    _, device = api(f"devices/{GPU.uuid}")

    readings = device["readings"]
    assert set(readings) == set(catalog.BY_NAME)
    assert readings["power_draw_watts"] == {"value": 400.0, "unit": "watts", "reason": None}
    assert readings["fan_speed_ratio"] == {"value": None, "unit": "ratio", "reason": "not_supported"}
    assert readings["encoder_utilization_ratio"]["reason"] == "not_offered"
    assert (device["host"], device["pci_bus_id"], device["kind"]) == ("gpu-a01", GPU.pci_bus_id, "nvidia")


def test_a_device_is_found_by_a_uuid_with_slashes(api):
    """As older drivers name MIG devices: MIG-GPU-<uuid>/<instance>/<compute instance>."""
    report({"power_draw_watts": 400.0}, device=DeviceInfo("MIG-GPU-1/2/0", DeviceKind.NVIDIA, 0, "", "", ""))

    assert api("devices/MIG-GPU-1/2/0")[1]["uuid"] == "MIG-GPU-1/2/0"
    assert api("devices/MIG-GPU-1/2/0/series", metric="power_draw_watts")[0] == 200


def test_a_device_that_nobody_knows_is_an_error(api):
    assert error(api("devices/GPU-0")) == (404, "not_found", "uuid")
    assert error(api("devices/GPU-0/series", metric="power_draw_watts")) == (404, "not_found", "uuid")


def test_a_gauge_answers_mean_min_and_max_on_one_grid(api):
    first = report({"power_draw_watts": 400.0}, ticks=10, ago=MINUTE_AGO)

    _, answer = api(
        f"devices/{GPU.uuid}/series", metric="power_draw_watts", start=first, end=first + 10_000, points=100
    )

    series = answer["metrics"]["power_draw_watts"]
    assert (series["unit"], series["kind"], answer["step_seconds"]) == ("watts", "gauge", 1)
    assert set(series["mean"]) == set(series["min"]) == set(series["max"]) == {400}
    assert len(series["time_ms"]) == len(series["mean"])
    assert datetime.fromisoformat(answer["start"]) == datetime.fromtimestamp(first / 1000, UTC)


def test_a_counter_answers_its_increase(api):
    first = report({"energy_joules_total": 5000.0}, ticks=10, ago=MINUTE_AGO)

    _, answer = api(f"devices/{GPU.uuid}/series", metric="energy_joules_total", start=first, end=first + 10_000)

    series = answer["metrics"]["energy_joules_total"]
    assert sum(x or 0 for x in series["increase"]) == 0
    assert set(series) == {"unit", "kind", "time_ms", "increase"}


def test_a_state_answers_seconds_at_each_value(api):
    first = report({"clock_event_reasons": 4}, ticks=10, ago=MINUTE_AGO)

    _, answer = api(
        f"devices/{GPU.uuid}/series", metric="clock_event_reasons", start=first, end=first + 12_000, points=100
    )

    series = answer["metrics"]["clock_event_reasons"]
    assert list(series["seconds"]) == ["4"]
    # Ten samples, the last of which holds for 2 s.
    assert sum(x or 0 for x in series["seconds"]["4"]) == pytest.approx(11)


def test_a_state_is_told_over_any_range(api):
    first = report({"clock_event_reasons": 4}, ticks=10, ago=MINUTE_AGO)

    status, answer = api(
        f"devices/{GPU.uuid}/series", metric="clock_event_reasons", start=first - 30 * 86_400_000, end=first + 60_000
    )

    seconds = answer["metrics"]["clock_event_reasons"]["seconds"]
    assert (status, sum(x or 0 for x in seconds["4"])) == (200, 11)


def test_what_was_not_measured_is_null(api):
    first = report({"power_draw_watts": 400.0}, ticks=10, ago=MINUTE_AGO)

    _, answer = api(
        f"devices/{GPU.uuid}/series",
        metric=["power_draw_watts", "fan_speed_ratio"],
        start=first - 10_000,
        end=first + 10_000,
    )

    assert set(answer["metrics"]["fan_speed_ratio"]["mean"]) == {None}
    assert {None, 400.0} == set(answer["metrics"]["power_draw_watts"]["mean"])


def test_times_are_iso_or_milliseconds(api):
    first = report({"power_draw_watts": 400.0}, ticks=10, ago=MINUTE_AGO)
    start, end = (datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (first, first + 10_000))
    path = f"devices/{GPU.uuid}/series"

    by_iso = api(path, metric="power_draw_watts", start=start, end=end.replace("+00:00", "Z"))

    assert by_iso == api(path, metric="power_draw_watts", start=first, end=first + 10_000)


@pytest.mark.parametrize(
    ("parameters", "code", "field"),
    [
        ({}, "invalid", "metric"),
        ({"metric": "power"}, "unknown_metric", "metric"),
        ({"metric": "power_draw_watts", "points": 4001}, "invalid", "points"),
        ({"metric": "power_draw_watts", "points": 1}, "invalid", "points"),
        ({"metric": "power_draw_watts", "start": "yesterday"}, "invalid", "start"),
        ({"metric": "power_draw_watts", "start": "2026-11-23T12:00:00"}, "invalid", "start"),
        ({"metric": "power_draw_watts", "start": "9" * 30}, "invalid", "start"),
        ({"metric": "power_draw_watts", "start": "0001-01-01T00:00:00Z"}, "invalid", "start"),
        ({"metric": "power_draw_watts", "start": 2000, "end": 1000}, "invalid", "start"),
    ],
)
def test_a_bad_question_for_a_series_is_refused(api, parameters, code, field):
    report({"power_draw_watts": 400.0})

    assert error(api(f"devices/{GPU.uuid}/series", **parameters)) == (400, code, field)


def test_the_summary_counts_hosts_and_devices_and_sums_power(api, fleet):
    watch_for(40)
    _, answer = api("fleet/summary")

    assert answer["hosts"] == {"ok": 1, "warn": 0, "crit": 0, "silent": 2}
    assert answer["devices"] == {"ok": 1, "warn": 0, "crit": 0, "silent": 1}
    assert answer["counted"] == "GPUs"
    assert answer["readings"]["power_draw_watts"]["value"] == 400
    assert answer["readings"]["gpu_utilization_ratio"]["value"] == 0.5
    assert [item["title"].partition(" since")[0] for item in answer["attention"]] == ["b: no sample"]  # c never joined


def test_the_summary_says_that_its_power_is_not_that_of_all_devices(api, fleet):
    _, whole = api("fleet/summary", cluster="north")
    _, partly = api("fleet/summary")  # of host b, which is silent, no power is known

    assert whole["readings"]["power_draw_watts"] == {"value": 400, "unit": "watts", "reason": None}
    assert partly["readings"]["power_draw_watts"] == {"value": 400, "unit": "watts", "reason": "incomplete"}


def test_the_power_of_a_cluster_that_is_silent_is_not_known(api, fleet):
    _, answer = api("fleet/summary", cluster="south")

    assert answer["readings"]["power_draw_watts"] == {"value": None, "unit": "watts", "reason": "silent"}


def test_the_summary_of_no_host_at_all_knows_no_power(api):
    _, answer = api("fleet/summary")

    assert answer["readings"]["power_draw_watts"]["value"] is None


def test_the_summary_says_that_hosts_are_simulated(api, fleet):
    Host.objects.filter(name="a").update(origin=Origin.SIMULATED)

    assert api("fleet/summary")[1]["origins"] == ["simulated"]


def test_the_summary_of_one_cluster(api, fleet):
    assert api("fleet/summary", cluster="north")[1]["hosts"]["silent"] == 0


def test_the_map_shows_one_metric_of_each_accelerator(api, fleet):
    report({"power_draw_watts": 100.0}, host="d", device=CPU)

    _, answer = api("fleet/map", metric="power_draw_watts")

    assert [(item["uuid"], item["reading"]["value"]) for item in answer["items"]] == [(GPU.uuid, 400), ("GPU-2", None)]


@pytest.mark.parametrize("path", ["fleet/map", "fleet/series"])
def test_the_fleet_is_asked_for_a_metric_of_the_catalogue(api, path):
    assert error(api(path)) == (400, "invalid", "metric")
    assert error(api(path, metric="watts")) == (400, "unknown_metric", "metric")


@pytest.mark.parametrize(
    ("group_by", "means"),
    [
        ("", {"": 550}),
        ("cluster", {"north": 400, "south": 700}),
        ("host", {"a": 400, "b": 700}),
        ("model", {"NVIDIA H100 80GB HBM3": 400, "NVIDIA H200": 700}),
        ("label:team", {"nlp": 400, "vision": 700}),
        ("label:rack", {"": 550}),
    ],
)
def test_a_trend_is_told_by_group(api, fleet, group_by, means):
    first = report({"power_draw_watts": 400.0}, host="a", ticks=20, ago=MINUTE_AGO, sequence=1)
    report({"power_draw_watts": 700.0}, host="b", ticks=20, ago=MINUTE_AGO, sequence=1, device=H200)

    _, answer = api(
        "fleet/series", metric="power_draw_watts", group_by=group_by, start=first + 4000, end=first + 16_000
    )

    middle = {group["key"]: group["mean"][2] for group in answer["groups"]}
    assert middle == means
    assert all(len(group["total"]) == len(answer["time_ms"]) for group in answer["groups"])


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"metric": "energy_joules_total"}, "metric"),
        ({"metric": "clock_event_reasons"}, "metric"),
        ({"metric": "power_draw_watts", "group_by": "colour"}, "group_by"),
        ({"metric": "power_draw_watts", "group_by": "label:"}, "group_by"),
    ],
)
def test_a_bad_question_for_a_trend_is_refused(api, parameters, field):
    assert error(api("fleet/series", **parameters)) == (400, "invalid", field)


def test_lists_cost_the_same_number_of_queries_whatever_their_length(api, fleet, django_assert_max_num_queries):
    for number in range(5):
        Host.objects.create(name=f"more-{number}")

    with django_assert_max_num_queries(7):  # one of them asks for the open alerts, which health follows
        api("devices")
