"""The pages of the fleet, its hosts and devices: what they show, who may see them, what they cost."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fleet.models import DeviceKind, Host, Origin, Role
from fleet.web import shared_answer
from tests.factories import CPU_READINGS, GPU_READINGS, make_chunks, make_device, make_gpu_host, make_host, make_latest
from tests.people import signed_in
from tests.telemetry.watched import watch_for

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
SESSION_AND_USER = 2
INLINE = re.compile(r"<script(?![^>]*(\bsrc=|application/json))|<style|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)


@pytest.fixture
def viewer() -> Client:
    return signed_in()


@pytest.fixture
def gpu_host():
    return make_gpu_host("gpu-a01", 8, cluster="atlas")


def paths(host) -> list[str]:
    device = host.devices.first()
    return ["/", "/hosts/", f"/hosts/{host.name}/", f"/devices/{device.uuid}/", "/events/"]


def data_paths(host) -> list[str]:
    query = "?range=1h&metric=power_draw_watts"
    device = host.devices.first()
    return [
        "/fleet/map/",
        "/fleet/arrays/",
        f"/hosts/{host.name}/arrays/{query}",
        f"/hosts/{host.name}/agent/",
        f"/devices/{device.uuid}/day/",
        f"/devices/{device.uuid}/arrays/{query}&chart=power",
    ]


def text(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_every_page_answers_and_sends_the_policy(viewer, gpu_host):
    for path in paths(gpu_host):
        page = viewer.get(path)
        assert page.status_code == 200, path
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_no_page_or_fragment_holds_inline_script_or_style(viewer, gpu_host):
    for path in [*paths(gpu_host), "/hosts/no-such/"]:
        assert not INLINE.search(viewer.get(path).content.decode()), path
        assert not INLINE.search(viewer.get(path, headers=HTMX).content.decode()), path
    assert not INLINE.search(Client().get("/login/").content.decode())


def test_every_page_has_one_heading_and_its_landmarks(viewer, gpu_host):
    for path in [*paths(gpu_host), "/hosts/no-such/"]:
        page = viewer.get(path).content.decode()
        assert (page.count("<h1"), page.count("<main"), page.count("<nav")) == (1, 1, 1), path


def test_nothing_is_shown_to_a_stranger(gpu_host):
    for path in [*paths(gpu_host), *data_paths(gpu_host), "/fleet/agents/"]:
        answer = Client().get(path)
        assert answer.status_code == 302, path
        assert answer.headers["Location"].startswith("/login/?next="), path


def test_a_missing_page_tells_a_stranger_nothing_of_the_fleet(gpu_host):
    page = Client().get("/no/such/page")
    assert page.status_code == 404
    assert "agent" not in text(page)


@pytest.mark.parametrize("path", ["/hosts/gpu-z99/", "/devices/GPU-none/"])
def test_what_is_unknown_is_said_by_name(viewer, path):
    page = viewer.get(path)
    assert page.status_code == 404
    assert path.split("/")[2] in text(page)


def test_a_range_that_does_not_exist_is_refused_in_words(viewer, gpu_host):
    page = viewer.get("/?range=2h")
    assert page.status_code == 400
    assert "expected one of 15m, 1h" in text(page)


@pytest.mark.parametrize("path", ["/", "/hosts/"])
def test_a_page_costs_the_same_queries_for_one_host_and_for_many(viewer, gpu_host, path):
    viewer.get(path)
    with CaptureQueriesContext(
        connection,
    ) as for_one:
        viewer.get(path)
    for number in range(2, 6):
        make_gpu_host(f"gpu-a{number:02}", 8)
    viewer.get(path)
    with CaptureQueriesContext(connection) as for_five:
        viewer.get(path)
    assert len(for_five) == len(for_one)


def test_the_fleet_fragment_reads_hosts_what_changed_and_xids_once_and_open_alerts_for_health_and_list(
    viewer, gpu_host, django_assert_num_queries
):
    viewer.get("/")
    with django_assert_num_queries(SESSION_AND_USER + 5):
        viewer.get("/", headers=HTMX)


def test_before_the_first_sample_the_page_waits(viewer):
    page = viewer.get("/")
    assert "Waiting for the first sample" in text(page)
    assert "nothing received so far" in text(viewer.get("/", headers=HTMX))


def test_the_waiting_page_is_replaced_when_the_first_sample_is_here(viewer, gpu_host):
    answer = viewer.get("/", headers={**HTMX, "HX-Target": "waiting"})
    assert answer.headers["HX-Refresh"] == "true"


def test_the_tiles_sum_up_the_devices(viewer, gpu_host):
    page = text(viewer.get("/"))
    for words in (
        "GPUs reporting 8 / 8 all healthy",
        "Busy share 100 % mean 93 %",
        "Fleet power 5.21 kW limit 5.60 kW",
    ):
        assert words in page


def test_a_fleet_of_cpus_speaks_of_cpus_and_says_what_it_does_not_know(viewer):
    host = make_host("workstation")
    device = make_device(host, kind=DeviceKind.CPU, model="AMD EPYC")
    make_latest(host, {device: CPU_READINGS}, {device: {"power_draw_watts": "no_permission"}})
    page = viewer.get("/")
    assert "CPUs reporting 1 / 1" in text(page)
    assert '<abbr class="faint" title="the agent has no permission to read it">—</abbr>' in page.content.decode()
    assert "No power is known: the agent has no permission to read it." in text(page)


def test_a_silent_host_shows_no_value(viewer):
    host = make_gpu_host("gpu-a01", 2, silent=True)
    row = text(viewer.get("/hosts/", headers=HTMX))
    assert "silent" in row
    assert row.count("—") >= 4
    assert "93" not in text(viewer.get(f"/hosts/{host.name}/", headers=HTMX))


def test_what_needs_attention_is_listed_gravest_first(viewer):
    host = make_host("gpu-a01")
    slow, lost = make_device(host, 0), make_device(host, 1)
    slowed = {**GPU_READINGS, "clock_event_reasons": float(0x20)}
    make_latest(host, {slow: slowed, lost: {}}, {lost: {"power_draw_watts": "gpu_is_lost"}})
    watch_for(30)
    page = text(viewer.get("/"))
    assert page.index("GPU 1: fell off the bus") < page.index("GPU 0: software thermal slowdown")


@pytest.mark.parametrize(
    ("origin", "words"), [(Origin.SIMULATED, "Simulated data."), (Origin.IMPORTED, "Recorded data.")]
)
def test_data_that_no_live_host_measured_is_named_on_every_page(viewer, origin, words):
    host = make_gpu_host("sim-01", 2, origin=origin)
    for path in paths(host):
        assert words in text(viewer.get(path)), path


def test_the_launch_button_is_for_those_who_may_launch(gpu_host):
    link = "/reference/?view=launch&amp;host=gpu-a01"
    assert link not in signed_in(Role.VIEWER).get("/hosts/gpu-a01/").content.decode()
    assert link in signed_in(Role.OPERATOR).get("/hosts/gpu-a01/").content.decode()


def test_a_metric_that_no_device_offers_has_its_reason_instead_of_a_chart(viewer):
    host = make_host("workstation")
    device = make_device(host, kind=DeviceKind.CPU)
    make_latest(host, {device: CPU_READINGS}, {device: {"power_draw_watts": "not_supported"}})
    page = viewer.get("/hosts/workstation/").content.decode()
    assert "not offered by this device or its driver" in page
    assert 'data-figure="fig-power_draw_watts"' not in page
    assert 'data-figure="fig-gpu_utilization_ratio"' in page


def test_a_device_page_names_the_reason_of_every_absent_reading(viewer, gpu_host):
    device = gpu_host.devices.first()
    page = viewer.get(f"/devices/{device.uuid}/", headers=HTMX).content.decode()
    assert "not offered by this kind of device" in page
    assert "651" in page


def test_the_host_map_is_columns_over_devices(viewer, gpu_host):
    answer = viewer.get("/fleet/map/").json()
    assert answer["hosts"] == {"name": ["gpu-a01"], "cluster": ["atlas"], "devices": [8]}
    assert answer["values"]["memory_used_ratio"] == [862] * 8
    assert (answer["steps"]["memory_used_ratio"], answer["power_scale_watts"]) == (1000, 700.0)
    assert [answer["words"]["title"][code] for code in answer["devices"]["title"]] == [f"GPU {n}" for n in range(8)]


def test_beside_gpus_a_node_is_neither_in_the_scale_of_power_nor_called_a_gpu(viewer, gpu_host):
    recorded = make_host("node-1", origin=Origin.IMPORTED)
    make_latest(recorded, {make_device(recorded, kind=DeviceKind.NODE): {"power_draw_watts": 7000.0}})
    page = text(viewer.get("/fleet/devices/"))

    assert viewer.get("/fleet/map/").json()["power_scale_watts"] == 700.0
    assert "9 devices" in page
    assert re.search(r"node-1 node 0 \S+ recorded", page)


def test_the_host_map_is_not_sent_again_to_one_who_has_it(viewer, gpu_host):
    etag = viewer.get("/fleet/map/").headers["ETag"]
    assert viewer.get("/fleet/map/", headers={"If-None-Match": etag}).status_code == 304
    make_gpu_host("gpu-a02", 1)
    shared_answer.forget()  # as a second later
    assert viewer.get("/fleet/map/", headers={"If-None-Match": etag}).status_code == 200


def test_a_cell_leads_to_its_device(viewer, gpu_host):
    device = gpu_host.devices.last()
    (asked,) = [pk for pk in viewer.get("/fleet/map/").json()["devices"]["id"] if pk == device.pk]
    assert viewer.get(f"/fleet/devices/{asked}/").headers["Location"] == f"/devices/{device.uuid}/"
    assert viewer.get("/fleet/devices/0/").status_code == 404


def test_the_way_to_a_device_keeps_what_was_asked_for(viewer, gpu_host):
    device = gpu_host.devices.last()
    answer = viewer.get(f"/fleet/devices/{device.pk}/?range=7d&compare=a%26b")

    assert answer.headers["Location"] == f"/devices/{device.uuid}/?range=7d&compare=a%26b"


def test_the_map_as_a_table_sorts_by_any_metric_and_names_what_it_does_not_know(viewer, gpu_host):
    make_latest(
        make_host("hot"), {make_device(Host.objects.get(name="hot"), 0): {**GPU_READINGS, "temperature_celsius": 91.0}}
    )
    page = text(viewer.get("/fleet/devices/?sort=-temperature_celsius"))
    assert page.index("hot GPU 0") < page.index("gpu-a01 GPU 0")
    assert viewer.get("/fleet/devices/?sort=nonsense").status_code == 400
    assert viewer.get("/fleet/devices/?page=2").status_code == 400


def test_the_fleet_page_of_a_cluster_speaks_of_that_one_alone(viewer, gpu_host):
    make_gpu_host("gpu-b01", 4, cluster="borealis")
    page = text(viewer.get("/?cluster=borealis"))
    assert "GPUs reporting 4 / 4" in page
    assert viewer.get("/fleet/map/?cluster=borealis").json()["hosts"]["name"] == ["gpu-b01"]
    assert viewer.get("/?cluster=nowhere").status_code == 404


def test_an_absent_value_on_the_map_is_null(viewer):
    host = make_host("workstation")
    make_latest(host, {make_device(host, kind=DeviceKind.CPU): CPU_READINGS})
    assert viewer.get("/fleet/map/").json()["values"]["power_draw_watts"] == [None]


@pytest.fixture
def used():
    return [0.9, 0.5]


@pytest.fixture
def measured_host(used):
    """Two GPUs, two minutes of samples each second, half a minute of silence between them."""
    host = make_host("gpu-a01", cluster="atlas")
    devices = [make_device(host, index) for index in range(2)]
    make_latest(host, dict.fromkeys(devices, GPU_READINGS))
    end_ms = int((datetime.now(UTC) - timedelta(seconds=2)).timestamp()) * 1000
    times = [end_ms - 1000 * back for back in range(150, 0, -1) if not 60 <= back < 90]
    watts = [[600.0] * len(times), [400.0] * len(times)]
    ratios = [[ratio] * len(times) for ratio in used]
    make_chunks(host, devices, times, {"gpu_utilization_ratio": ratios, "power_draw_watts": watts})
    return host


def stacked_on_page(viewer, cluster: str) -> list[dict[str, Any]]:
    page = viewer.get("/", {"cluster": cluster}).content.decode()
    return json.loads(re.search(r'id="fig-power" type="application/json">(.*?)</script>', page)[1])["data"]


def known(values: list[float | None]) -> set[float]:
    return {round(value, 6) for value in values if value is not None}


def unpacked(trace: dict[str, Any]) -> set[float]:
    rises = np.array([rise for rise in trace["rises"] if rise is not None])
    return {round(value, 6) for value in rises.cumsum() * trace["step"]}


def test_fleet_arrays_hold_mean_and_stacked_power(viewer, measured_host):
    answer = viewer.get("/fleet/arrays/?range=15m").json()
    band, mean, _ = answer["charts"]["fig-utilisation"]["traces"]
    _, power = answer["charts"]["fig-power"]["traces"]
    assert known(mean["y"]) == {0.7}
    assert known(band["y"]) == {0.54, 0.86}
    assert known(power["y"]) == {1000.0}
    assert answer["sparks"]["power"]["line"].startswith("M")


@pytest.mark.parametrize(("cluster", "ratio", "watts"), [("", 0.25, 300.0), ("atlas", 0.7, 1000.0)])
def test_the_charts_of_hosts_without_a_cluster_are_theirs_alone(viewer, measured_host, cluster, ratio, watts):
    host = make_host("gpu-x01")
    device = make_device(host, uuid="GPU-x01")
    make_latest(host, {device: GPU_READINGS})
    end_ms = int((datetime.now(UTC) - timedelta(seconds=2)).timestamp()) * 1000
    columns = {"gpu_utilization_ratio": [[0.25] * 60], "power_draw_watts": [[300.0] * 60]}
    make_chunks(host, [device], [end_ms - 1000 * back for back in range(60, 0, -1)], columns)

    charts = viewer.get("/fleet/arrays/", {"range": "15m", "cluster": cluster}).json()["charts"]

    assert known(charts["fig-utilisation"]["traces"][1]["y"]) == {ratio}
    assert known(charts["fig-power"]["traces"][-1]["y"]) == {watts}
    assert len(charts["fig-power"]["traces"]) == len(stacked_on_page(viewer, cluster))


@pytest.mark.parametrize("used", [[0.9, 0.5], [0.0, 0.0], [0.0, 0.5]])
def test_devices_are_counted_whether_they_work_or_not(viewer, measured_host):
    line = viewer.get("/fleet/arrays/?range=15m").json()["sparks"]["reporting"]["line"]

    heights = {float(y) for y in re.findall(r"[ML][\d.]+[ ,]([\d.]+)", line)}
    assert len(heights) == 1  # two all the time


def test_host_arrays_put_the_chosen_device_last(viewer, measured_host):
    first = measured_host.devices.first()
    query = f"?range=15m&metric=power_draw_watts&device={first.uuid}"
    peer, chosen = viewer.get(f"/hosts/gpu-a01/arrays/{query}").json()["charts"]["fig-power_draw_watts"]["traces"]
    assert (unpacked(peer), unpacked(chosen)) == ({400.0}, {600.0})


def test_a_silence_is_null_and_marked_as_a_gap(viewer, measured_host):
    device = measured_host.devices.first()
    answer = viewer.get(f"/devices/{device.uuid}/arrays/?range=15m&chart=power&metric=power_draw_watts").json()
    chart = answer["charts"]["fig-power"]
    middle = chart["traces"][1]["y"]
    first, last = (
        next(i for i in order if middle[i] is not None)
        for order in (range(len(middle)), range(len(middle) - 1, -1, -1))
    )
    assert None in middle[first:last]
    assert len(chart["shapes"]) == 2  # before the first sample, and the silence


def test_an_unknown_metric_is_an_error(viewer, gpu_host):
    assert viewer.get("/hosts/gpu-a01/arrays/?metric=nonsense").status_code == 400


def test_a_metric_that_is_asked_for_twice_is_answered_once(viewer, measured_host):
    path = f"/devices/{measured_host.devices.first().uuid}/arrays/?range=15m&format=csv"
    once = viewer.get(f"{path}&metric=power_draw_watts")
    assert once.content == viewer.get(path + 3 * "&metric=power_draw_watts").content


@pytest.mark.parametrize("path", ["/", "/power/", "/hosts/gpu-a01/arrays/", "/efficiency/work/", "/events/"])
def test_a_time_that_never_comes_is_an_error_and_no_failure(viewer, gpu_host, path):
    assert viewer.get(path, {"from": 10**17, "to": 10**17 + 1000}).status_code == 400


def test_the_figures_of_a_page_fit_the_traces_of_its_arrays(viewer, measured_host):
    page = viewer.get("/hosts/gpu-a01/")
    arrays = viewer.get(page.context["arrays"]).json()["charts"]
    offered = [chart for chart in page.context["charts"] if chart.figure]
    assert {chart.id: len(chart.figure["data"]) for chart in offered} == {
        k: len(v["traces"]) for k, v in arrays.items()
    }


def test_a_host_that_was_added_and_has_not_joined_is_no_alarm(viewer):
    make_host("gpu-new", last_seen_at=None, heard_at=None)
    assert "gpu-new silent" not in viewer.get("/").content.decode()
    assert "waiting for its agent to join" in viewer.get("/hosts/").content.decode()
