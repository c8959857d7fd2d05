"""The Prometheus exposition under the own names: its bytes, that parsers read it back, and what is left out."""

import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Device, DeviceKind, Host, Origin
from telemetry.catalog import BY_NAME
from telemetry.exposition.own_names import Names
from telemetry.models import LatestState
from tests.programs import require
from tests.telemetry.exposed import AGENT, NOW, READINGS, add_device, expose, make_host, sample_names, samples, tell

pytestmark = pytest.mark.django_db
DATA = Path(__file__).parent.parent / "data"
AWKWARD = 'a "b" \\ c\nd, {e} = ü 100 %d'


def lints(text: str) -> set[str]:
    """Return what promtool has to say of an exposition."""
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    return set((done.stdout + done.stderr).decode().splitlines())


def add_mig(gpu: Device) -> None:
    values = {"memory_used_bytes": 1_073_741_824, "sm_active_ratio": 0.5}
    part = {"kind": DeviceKind.NVIDIA, "index": 3, "parent": gpu, "profile": "1g.10gb"}
    add_device(gpu.host, values, uuid="MIG-1", model="NVIDIA L4 MIG 1g.10gb", **part)


@pytest.mark.parametrize(("openmetrics", "file"), [(False, "metrics.txt"), (True, "metrics.openmetrics.txt")])
def test_its_bytes_are_the_golden_ones(openmetrics: bool, file: str) -> None:
    gpu = make_host()
    add_mig(gpu)
    add_device(gpu.host, AGENT, uuid="node-1", kind=DeviceKind.NODE, index=0, model="AMD EPYC 9654")
    make_host("gpu-a02", seconds_ago=31, uuid="GPU-2")
    assert expose(openmetrics=openmetrics) == (DATA / file).read_text()


@pytest.mark.parametrize("names", [[Names.STEPWATT], [Names.DCGM], list(Names)])
def test_the_parser_of_the_text_format_reads_every_sample_back(names: list[Names]) -> None:
    make_host(model=AWKWARD, values=dict.fromkeys(BY_NAME, 1.5))
    text = expose(*names)
    found = [sample for family in read_text(text) for sample in family.samples]
    assert len(found) == len(sample_names(text)) >= 50
    models = {s.labels.get("model") or s.labels.get("modelName") for s in found} - {None}
    assert models == {AWKWARD}


@pytest.mark.parametrize("names", [[Names.STEPWATT], [Names.DCGM], list(Names)])
def test_the_parser_of_openmetrics_reads_every_sample_back(names: list[Names]) -> None:
    make_host(model=AWKWARD, values=dict.fromkeys(BY_NAME, 1.5))
    text = expose(*names, openmetrics=True)
    found = {family.name: family for family in read_openmetrics(text)}
    assert sum(len(family.samples) for family in found.values()) == len(sample_names(text)) >= 50


def test_openmetrics_knows_types_and_units() -> None:
    make_host()
    found = {family.name: family for family in read_openmetrics(expose(openmetrics=True))}
    assert found["stepwatt_energy_joules"].type == "counter"
    assert found["stepwatt_energy_joules"].unit == "joules"
    assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].type == "unknown"


def test_the_lines_are_the_same_in_both_formats() -> None:
    make_host()
    lines = [
        [line for line in expose(openmetrics=openmetrics).splitlines() if not line.startswith("#")]
        for openmetrics in (False, True)
    ]
    assert lines[0] == lines[1] != []


def test_a_value_is_told_with_all_its_digits() -> None:
    make_host(values={"energy_joules_total": 123456789.123, "power_draw_watts": 1e-3, "memory_used_bytes": 2**40 + 1})
    found = samples(expose(Names.STEPWATT))
    assert found["stepwatt_energy_joules_total"] == 123456789.123
    assert found["stepwatt_power_draw_watts"] == 0.001
    assert found["stepwatt_memory_used_bytes"] == 2**40 + 1


def test_promtool_has_nothing_to_say_of_the_own_names() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    assert lints(expose(Names.STEPWATT)) == set()


def test_families_are_contiguous_over_all_hosts() -> None:
    for number in range(3):
        make_host(f"gpu-a0{number}", uuid=f"GPU-{number}")
    names = sample_names(expose())
    seen = list(dict.fromkeys(names))
    assert names == sorted(names, key=seen.index)
    assert names.count("stepwatt_power_draw_watts") == 3


def test_an_agents_own_cost_is_told_of_the_host_as_a_whole() -> None:
    gpu = make_host()
    add_device(gpu.host, AGENT, uuid="node-1", kind=DeviceKind.NODE, index=0)
    line = 'stepwatt_agent_cpu_seconds_total{host="gpu-a01",cluster="alpha",device="0",uuid="node-1"} 12.5\n'
    assert line in expose(Names.STEPWATT)


def test_an_absent_reading_is_left_out() -> None:
    make_host(values={"temperature_celsius": 40}, absent={"power_draw_watts": "not_supported"})
    text = expose()
    assert "temperature" in text
    assert "power" not in text.lower()


@pytest.mark.parametrize("reason", ["gpu_is_lost", "reset_required"])
def test_a_lost_device_is_told_as_down(reason: str) -> None:
    make_host(values={}, absent={"power_draw_watts": reason})
    assert samples(expose())["stepwatt_device_up"] == 0


def test_a_lost_device_has_no_readings_even_where_it_still_answers() -> None:
    make_host(values=READINGS, absent={"fan_speed_ratio": "gpu_is_lost"})
    found = samples(expose())
    assert "stepwatt_power_draw_watts" not in found
    assert "DCGM_FI_DEV_POWER_USAGE" not in found


def test_the_xid_of_a_lost_device_is_told() -> None:
    make_host(values=READINGS, absent={"fan_speed_ratio": "gpu_is_lost"})
    found = samples(expose())
    assert found["stepwatt_xid_last"] == 79
    assert found["DCGM_FI_DEV_XID_ERRORS"] == 79


def test_a_silent_host_is_told_as_down_and_its_series_end() -> None:
    make_host(seconds_ago=31)
    found = samples(expose())
    assert set(found) == {"stepwatt_host_info", "stepwatt_host_up", "stepwatt_host_last_sample_timestamp_seconds"}
    assert found["stepwatt_host_up"] == 0


@pytest.mark.parametrize(("behind_ms", "is_told"), [(30_000, True), (30_001, False)])
def test_a_device_that_its_host_no_longer_reports_has_no_readings(behind_ms: int, is_told: bool) -> None:
    gpu = make_host()
    other = add_device(gpu.host, {}, uuid="GPU-2", kind=DeviceKind.NVIDIA, index=1)
    tell(other, {"fan_speed_ratio": 0.5}, later_ms=behind_ms)
    Host.objects.update(heard_at=NOW)
    text = expose(Names.STEPWATT)
    assert (
        f'stepwatt_device_up{{host="gpu-a01",cluster="alpha",device="0",uuid="{gpu.uuid}"}} {int(is_told)}\n'
    ) in text
    assert ("stepwatt_power_draw_watts" in text) == is_told


def test_an_instance_that_is_no_more_leaves_whole() -> None:
    gpu = make_host()
    add_device(gpu.host, {}, uuid="MIG-1", kind=DeviceKind.NVIDIA, index=3, parent=gpu, profile="1g.10gb")
    state = LatestState.objects.get(host=gpu.host)
    del state.devices["MIG-1"]
    state.save()
    assert "MIG-1" not in expose()


def test_a_recording_is_not_shown_as_the_present() -> None:
    make_host(seconds_ago=1_000_000, origin=Origin.IMPORTED)
    assert set(samples(expose())) == {"stepwatt_host_info", "stepwatt_host_last_sample_timestamp_seconds"}
