"""What stands on the pages of hosts and devices beside their charts, from batches as agents send them."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import DeviceKind, Host, Origin
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceProcess, Topology
from telemetry.message.wire import DeviceKind as Kind
from telemetry.rollups import roll_up
from telemetry.views import device
from tests.factories import GPU_READINGS, make_device, make_gpu_host, make_host, make_latest
from tests.people import script, signed_in
from tests.telemetry.batches import GPU, MIG, NODE, payload, take

pytestmark = pytest.mark.django_db

SECOND_GPU = replace(GPU, uuid="GPU-2", index=1)
TRAIN = DeviceProcess(4711, "python train.py", "vera", 69 * 2**30, 0.94, "3f2a9c", "812345")
HTMX = {"HX-Request": "true"}
PAGE, DEVICE = "/hosts/gpu-a01/", f"/devices/{GPU.uuid}/"


@pytest.fixture
def viewer():
    return signed_in()


def report(columns, *, ticks=1, ago=0, **kwargs):
    """Take a batch of `ticks` seconds that ended `ago` seconds before now; a column is one value, or one for each tick."""
    end = int(timezone.now().timestamp() - ago) * 1000
    times = [end - 1000 * (ticks - 1 - n) for n in range(ticks)]
    values = {name: value if isinstance(value, list) else [value] * ticks for name, value in columns.items()}
    take(payload(times, values, **kwargs), timezone.now())


def text(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_a_device_that_tells_shows_how_active_its_parts_are(viewer):
    report(
        {"sm_active_ratio": 0.98, "tensor_active_ratio": 0.66, "gpu_utilization_ratio": 1.0, "power_draw_watts": 541.0}
    )

    page = text(viewer.get(DEVICE))
    assert "SMs active 98 %" in page.replace("98%", "98 %")
    assert "Tensor pipe active 66" in page
    assert [tile.label for tile in viewer.get(DEVICE).context["tiles"]] == ["SMs active", "Tensor pipe active", "Power"]


def test_a_tile_is_read_against_limit_and_peers(viewer):
    report({"power_draw_watts": 650.0, "power_limit_watts": 700.0}, others=[SECOND_GPU])

    assert "of 700 W · peers 650 W" in text(viewer.get(DEVICE))


def test_metrics_that_belong_together_share_a_chart(viewer):
    report({"sm_active_ratio": 0.9, "dram_active_ratio": 0.4, "temperature_celsius": 61.0}, ticks=20)
    page = viewer.get(DEVICE)
    figures = {
        chart.id: [key["label"] for key in chart.figure["layout"]["meta"]["legend"]] for chart in page.context["charts"]
    }
    answer = viewer.get(page.context["arrays"]).json()["charts"]

    assert figures == {"fig-activity": ["SMs active", "Memory bandwidth used"], "fig-temperature": ["mean"]}
    assert {key: len(chart["traces"]) for key, chart in answer.items()} == {"fig-activity": 2, "fig-temperature": 2}


def test_a_counter_is_drawn_as_its_growth_per_second(viewer):
    report({"thermal_throttle_seconds_total": [0.25 * n for n in range(40)]}, ticks=40)
    arrays = viewer.get(DEVICE).context["arrays"]
    _, mean = viewer.get(arrays).json()["charts"]["fig-slowed"]["traces"]

    known = [value for value in mean["y"] if value is not None]
    assert set(known) == {0.25}  # none is lower for being covered in part


def test_a_chart_that_does_not_exist_is_refused(viewer):
    report({"power_draw_watts": 1.0})

    assert viewer.get(f"{DEVICE}arrays/?chart=nonsense&metric=power_draw_watts").status_code == 400
    assert viewer.get(f"{DEVICE}arrays/?chart=power&metric=nonsense").status_code == 400


def test_memory_health_and_links_are_in_words(viewer):
    report(
        {
            "ecc_uncorrected_total": 2, "row_remap_pending": 1, "xid_last": 48, "recovery_action": 1,
            "pcie_link_generation": 4, "pcie_link_generation_max": 5, "pcie_link_width": 16, "pcie_link_width_max": 16,
            "nvlink_tx_bytes_per_second": 8.9e10,
        }
    )  # fmt: skip

    page = text(viewer.get(DEVICE))
    for words in ("Row remap pending yes", "Last XID 48 Double Bit ECC Error", "Recovery action reset",
                  "PCIe generation 4 of 5", "PCIe width 16", "NVLink sent 89"):  # fmt: skip
        assert words in page, words


def test_who_has_the_device_and_a_time_of_nothing_are_in_words(viewer):
    report({"allocation": 2, "thermal_throttle_seconds_total": 0.0})

    page = text(viewer.get(DEVICE)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "Allocation a Slurm job" in page
    assert "Slowed by heat 0 s" in page


def test_minutes_of_the_fleet_that_are_still_to_be_made_are_not_shown_as_missing(viewer):
    report({"power_draw_watts": 400.0, "gpu_utilization_ratio": 0.5}, ticks=1200, ago=180)
    roll_up(30)
    now_ms = int(timezone.now().timestamp() * 1000)

    answer = viewer.get("/fleet/arrays/", {"from": now_ms - 3 * 3_600_000, "to": now_ms}).json()

    assert answer["charts"]
    for chart in answer["charts"].values():
        assert [shape["x1"] < now_ms - 1_200_000 for shape in chart["shapes"]] == [True]  # before the first sample


def test_the_last_day_sums_what_counters_grew_by(viewer):
    report({"power_throttle_seconds_total": [10.0 + 0.5 * n for n in range(61)]}, ticks=61)
    roll_up(10)

    assert "Slowed by the power cap 30" in text(viewer.get(f"{DEVICE}day/"))


def test_the_last_day_counts_nothing_that_is_older_than_a_day_and_a_quarter_of_an_hour(viewer, monkeypatch):
    now = datetime(2026, 11, 1, 15, 50, tzinfo=UTC)
    monkeypatch.setattr(device, "timezone", SimpleNamespace(now=lambda: now))
    for sequence, hours in enumerate((24.3, 0.1)):
        times = [int((now.timestamp() - 3600 * hours + n) * 1000) for n in range(61)]
        take(payload(times, {"power_throttle_seconds_total": [0.5 * n for n in range(61)]}, sequence=sequence), now)
    roll_up(10, now)

    assert "Slowed by the power cap 30" in text(viewer.get(f"{DEVICE}day/"))


def test_processes_stand_on_device_and_host_with_what_is_known_of_them(viewer):
    report({"power_draw_watts": 651.0}, processes={GPU.uuid: [TRAIN, DeviceProcess(99)]})

    for path in (DEVICE, PAGE):
        page = text(viewer.get(path))
        for words in ("4711 python train.py vera 69", "3f2a9c", "812345", "99 —"):
            assert words in page, (path, words)


def test_unknown_users_are_not_nobody(viewer):
    report({"power_draw_watts": 651.0}, ago=5)
    assert "Who uses this device is not known" in text(viewer.get(DEVICE))
    assert "Who uses the devices is not known" in text(viewer.get(PAGE))

    report({"power_draw_watts": 651.0}, sequence=1, processes={GPU.uuid: []})
    assert "No process uses this device." in text(viewer.get(DEVICE))


def test_instances_and_their_gpu_lead_to_each_other(viewer):
    report({"memory_used_bytes": 4 * 2**30}, others=[MIG])

    assert f'href="/devices/{MIG.uuid}/"' in viewer.get(DEVICE).content.decode()
    assert f'href="/devices/{MIG.uuid}/"' in viewer.get(PAGE).content.decode()
    assert f'href="/devices/{GPU.uuid}/"' in viewer.get(f"/devices/{MIG.uuid}/").content.decode()
    assert "1 × NVIDIA H100 80GB HBM3" in text(viewer.get(PAGE))


def test_the_topology_is_a_matrix_of_the_hosts_accelerators(viewer):
    links = Topology([(SECOND_GPU.uuid, GPU.uuid, "NV18")], {GPU.uuid: 0, SECOND_GPU.uuid: 1})
    report({"power_draw_watts": 651.0}, others=[SECOND_GPU, NODE], topology=links)

    rows = viewer.get(PAGE).context["topology"]
    assert [(row.ways, row.numa) for row in rows] == [(["X", "NV18"], 0), (["NV18", "X"], 1)]


def test_the_host_as_a_whole_stands_apart_from_its_devices(viewer):
    report({"power_draw_watts": 7600.0, "host_cpu_pressure_ratio": 0.02}, device=NODE, ago=5)
    report({"power_draw_watts": 651.0}, sequence=1, others=[NODE])

    page = viewer.get(PAGE)
    assert [card.device.uuid for card in page.context["cards"]] == [GPU.uuid]
    assert page.context["power_watts"] == 651
    assert "CPU pressure" in text(viewer.get(f"/devices/{NODE.uuid}/"))


def test_how_far_a_hosts_clock_is_off_stands_with_the_host_and_is_a_dash_before_it_is_measured(viewer):
    report({"power_draw_watts": 7600.0}, device=NODE, absent={"host_clock_offset_seconds": AbsentReason.UNKNOWN}, ago=5)
    assert "Clock offset —" in text(viewer.get(PAGE))
    report({"host_clock_offset_seconds": -12.5, "host_clock_error_seconds": 0.004}, sequence=1, device=NODE)

    assert "Clock offset −12.5 s" in text(viewer.get(PAGE)).replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_the_agents_cost_is_shown_with_its_share_of_a_core(viewer):
    columns = {"agent_cpu_seconds_total": [0.01 * n for n in range(240)], "agent_resident_bytes": 58 * 2**20,
               "agent_batches_dropped_total": 0}  # fmt: skip
    report(columns, ticks=240, device=NODE)

    page = text(viewer.get(f"{PAGE}agent/"))
    assert "CPU, last 5 min 1 %" in page.replace("1%", "1 %")
    assert "Agent memory 58" in page
    assert "Batches dropped 0" in page


def test_a_host_whose_agent_tells_nothing_of_itself_says_so(viewer):
    report({"power_draw_watts": 651.0})

    assert "tells nothing of its own cost" in text(viewer.get(f"{PAGE}agent/"))


def test_the_software_is_listed_whole(viewer):
    report({"power_draw_watts": 1.0}, software={"driver": "580.105.08", "nccl": "2.28.3"})

    assert "NCCL 2.28.3" in text(viewer.get(PAGE))


@pytest.mark.parametrize(
    ("kinds", "noun"),
    [([Kind.TPU], "TPUs"), ([Kind.AMD], "GPUs"), ([Kind.TPU, Kind.AMD], "Accelerators"), ([Kind.NODE], "Nodes")],
)
def test_devices_are_called_what_they_are(viewer, kinds, noun):
    devices = [DeviceInfo(f"D-{kind}", kind, 0, "a model") for kind in kinds]
    report({"power_draw_watts": 100.0}, device=devices[0], others=devices[1:])

    assert f"{noun} reporting {len(kinds)} / {len(kinds)}" in text(viewer.get("/"))


def test_only_nvidias_clock_is_that_of_streaming_multiprocessors(viewer):
    host = make_host("amd-01")
    make_latest(host, {make_device(host, kind=DeviceKind.AMD): GPU_READINGS})

    assert "Core clock" in text(viewer.get("/hosts/amd-01/"))


@pytest.mark.parametrize("origin", [Origin.SIMULATED, Origin.IMPORTED])
def test_a_host_that_is_not_real_is_marked_beside_its_name(viewer, origin):
    host = make_gpu_host("sim-01", 1, origin=origin)
    device = host.devices.get()
    for path in ("/hosts/", "/hosts/sim-01/", f"/devices/{device.uuid}/"):
        assert f'<span class="tag">{origin.value}</span>' in viewer.get(path).content.decode(), path


def test_the_api_tells_of_parts_processes_topology_and_software():
    report({"power_draw_watts": 651.0}, others=[MIG], processes={GPU.uuid: [TRAIN]},
           topology=Topology([(GPU.uuid, "GPU-2", "SYS")], {GPU.uuid: 0}))  # fmt: skip
    client = script()
    part, host = (client.get(f"/api/v1/{path}").json() for path in (f"devices/{MIG.uuid}", "hosts/gpu-a01"))

    assert (part["parent"], part["profile"], part["processes"]) == (GPU.uuid, "1g.10gb", None)
    whole = host["devices"][0]
    assert (whole["instances"], whole["processes"][0]["slurm_job"]) == ([MIG.uuid], "812345")
    assert host["topology"] == {"links": [[GPU.uuid, "GPU-2", "SYS"]], "numa": {GPU.uuid: 0}}
    assert host["device_count"] == 1


def test_the_openapi_describes_what_is_new():
    described = script().get("/api/v1/openapi.json").json()

    assert "/api/v1/hosts/{name}/driver" in described["paths"]
    names = {parameter["name"] for parameter in described["paths"]["/api/v1/events"]["get"]["parameters"]}
    assert names == {"host", "device", "kind", "severity", "rule", "state", "start", "end", "limit", "offset"}
    assert {"parent", "instances", "processes"} <= set(described["components"]["schemas"]["DeviceDetail"]["properties"])


@pytest.mark.parametrize("path", ["/hosts/gpu-a01/", "/devices/{}/"])
def test_a_page_costs_the_same_queries_with_many_devices_and_events(viewer, path):
    report({"power_draw_watts": 651.0}, others=[MIG], ago=5)
    path = path.format(GPU.uuid)
    viewer.get(path)
    with CaptureQueriesContext(connection) as few:
        viewer.get(path)
    many = [replace(GPU, uuid=f"GPU-{n}", index=n) for n in range(2, 8)]
    parts = [replace(MIG, uuid=f"MIG-{n}") for n in range(2, 8)]
    report({"power_draw_watts": 651.0}, sequence=1, others=[MIG, *many, *parts],
           processes={device.uuid: [TRAIN] for device in [GPU, *many]})  # fmt: skip
    with CaptureQueriesContext(connection) as more:
        viewer.get(path)

    assert len(more) == len(few), json.dumps([q["sql"][:90] for q in more.captured_queries], indent=1)


def test_a_lost_device_keeps_the_charts_of_its_past(viewer):
    report({"power_draw_watts": 651.0}, ago=5)
    report({}, sequence=1, absent={"power_draw_watts": AbsentReason.GPU_IS_LOST})

    query = parse_qs(urlsplit(viewer.get(DEVICE).context["arrays"]).query)
    assert "power_draw_watts" in query["metric"]


def test_a_recorded_host_has_no_driver_to_let_go_of():
    host = make_gpu_host("recorded", 1, origin=Origin.IMPORTED)

    assert Host.objects.get(pk=host.pk).public_key == b""
    assert "Let go of the driver" not in signed_in().get("/hosts/recorded/").content.decode()


def part_of(page, identity: str) -> str:
    """Return the element of that id: its opening tag and what stands up to the next element of the same kind."""
    return re.search(rf'<section class="panel" id="{identity}".*?</section>', page.content.decode(), re.DOTALL).group()


@pytest.mark.parametrize("path", [PAGE, DEVICE])
def test_an_open_page_takes_in_instances_and_loses_them(viewer, path):
    report({"power_draw_watts": 651.0}, ago=5)
    assert " hidden>" in part_of(viewer.get(path), "parts")
    report({"power_draw_watts": 651.0}, sequence=1, others=[MIG], ago=3)
    with_parts = part_of(viewer.get(path, headers=HTMX), "parts")
    report({"power_draw_watts": 651.0}, sequence=2)
    without = part_of(viewer.get(path, headers=HTMX), "parts")

    assert (MIG.uuid in with_parts, " hidden>" in with_parts) == (True, False)
    assert (MIG.uuid in without, " hidden>" in without) == (False, True)


@pytest.mark.parametrize("panel", ["links", "memory"])
def test_an_open_page_of_a_host_that_fell_silent_keeps_no_rate(viewer, panel):
    report({"nvlink_tx_bytes_per_second": 8.9e10, "ecc_corrected_total": 3}, ago=5)
    assert "<dt" in part_of(viewer.get(DEVICE), panel)
    long_ago = timezone.now() - timedelta(minutes=5)
    Host.objects.update(heard_at=long_ago, last_seen_at=long_ago)

    assert "<dt" not in part_of(viewer.get(DEVICE, headers=HTMX), panel)


@pytest.mark.parametrize("reason", [AbsentReason.RELEASED, AbsentReason.TIMEOUT, AbsentReason.DRIVER_AWAY])
@pytest.mark.parametrize("path", [PAGE, DEVICE])
def test_devices_without_a_reading_keep_the_charts_of_their_past(viewer, path, reason):
    report({"power_draw_watts": 651.0}, ago=5)
    report({"xid_last": 0}, sequence=1, absent={"power_draw_watts": reason})

    page = viewer.get(path)
    assert "power_draw_watts" in parse_qs(urlsplit(page.context["arrays"]).query)["metric"]
    assert 'data-figure="fig-power' in page.content.decode()


def test_a_long_note_in_the_table_of_hosts_can_be_read_whole(viewer):
    report({"ecc_uncorrected_total": 2})

    page = viewer.get("/hosts/").content.decode()
    assert '<small class="ellipsis" title="GPU 0: 2 uncorrected memory errors since the driver was loaded">' in page


def test_panels_of_a_silent_host_say_since_when_nothing_is_known(viewer):
    host = make_gpu_host("gpu-a07", silent=True)
    note = f"last sample {host.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"

    assert f"Who uses the devices is not known: {note}." in text(viewer.get("/hosts/gpu-a07/"))
    assert f"Not known now: {note} ." in text(viewer.get("/hosts/gpu-a07/agent/"))


def test_the_readings_stand_below_all_panels_across_the_page(viewer):
    report({"power_draw_watts": 541.0})

    page = viewer.get(DEVICE).content.decode()

    panels = max(page.index('id="users"'), page.index('id="happened"'))
    assert panels < page.index('class="panel columned"') < page.index('id="readings"')


@pytest.mark.parametrize(("days", "offers"), [(900, True), (0, False)])
def test_a_recording_of_long_ago_leads_to_its_last_hour(viewer, days, offers):
    host = make_gpu_host("rec-01", 1, origin=Origin.IMPORTED)
    ended = timezone.now() - timedelta(days=days)
    Host.objects.filter(pk=host.pk).update(last_seen_at=ended)
    link = f"?from={int(ended.timestamp() * 1000) - 3_599_999}&amp;to={int(ended.timestamp() * 1000) + 1}"

    for path in ("/hosts/rec-01/", f"/devices/{host.devices.first().uuid}/"):
        assert (link in viewer.get(path).content.decode()) is offers


def test_a_chosen_time_is_not_called_the_last_hour(viewer):
    report({"power_draw_watts": 541.0})

    assert "Last hour" in text(viewer.get(PAGE))
    assert "Chosen time" in text(viewer.get(f"{PAGE}?from=1000&to=5000"))


def test_a_table_can_be_had_as_a_file_whatever_a_device_is_called(viewer):
    device = make_device(make_host("gpu-a01"), profile='1g\n"10gb')

    answer = viewer.get(f"/devices/{device.uuid}/?format=csv&table=readings")

    assert answer.headers["Content-Disposition"].startswith('attachment; filename="gpu-a01-mig-0')
