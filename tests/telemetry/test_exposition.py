"""The Prometheus exposition: its bytes, who may read it, and what is left out."""

import re
import subprocess
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.auth import create_token
from fleet.models import DeviceKind, Origin, Role
from telemetry.catalog import BY_NAME, METRICS
from telemetry.exposition import Names, families
from telemetry.queries import fleet_state
from telemetry.textformat import OPENMETRICS, TEXT, render
from tests.programs import require
from tests.telemetry.exposed import NOW, UUID, make_host

pytestmark = pytest.mark.django_db
DATA = Path(__file__).parent.parent / "data"

# What dcgm-exporter's default-counters.csv says of the names that both have.
DCGM_COUNTERS = {
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
}
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
AWKWARD = 'a "b" \\ c\nd, {e} = ü'


def expose(*names: Names, openmetrics: bool = False) -> str:
    return render(families(fleet_state(NOW), names or list(Names)), openmetrics=openmetrics)


def samples(text: str) -> dict[str, float]:
    """Return value by sample name, of a fleet where each name has one sample."""
    return {sample.name: sample.value for family in read_text(text) for sample in family.samples}


def lints(text: str) -> set[str]:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    return set((done.stdout + done.stderr).decode().splitlines())


@pytest.mark.parametrize(("openmetrics", "file"), [(False, "metrics.txt"), (True, "metrics.openmetrics.txt")])
def test_its_bytes_are_the_golden_ones(openmetrics: bool, file: str) -> None:
    make_host()
    make_host("gpu-a02", seconds_ago=31, uuid="GPU-2")
    assert expose(openmetrics=openmetrics) == (DATA / file).read_text()


def test_the_parser_of_the_text_format_reads_every_sample_back() -> None:
    make_host(model=AWKWARD)
    text = expose()
    found = [sample for family in read_text(text) for sample in family.samples]
    assert len(found) == sum(not line.startswith("#") for line in text.splitlines())
    assert {s.labels["modelName"] for s in found if s.name.startswith("DCGM_")} == {AWKWARD}


def test_the_parser_of_openmetrics_reads_every_sample_back() -> None:
    make_host(model=AWKWARD)
    text = expose(openmetrics=True)
    found = {family.name: family for family in read_openmetrics(text)}
    assert sum(len(family.samples) for family in found.values()) == sum(
        not line.startswith("#") for line in text.splitlines()
    )
    assert found["stepwatt_energy_joules"].type == "counter"
    assert found["stepwatt_energy_joules"].unit == "joules"
    assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].type == "unknown"


def test_promtool_has_nothing_to_say_of_the_own_names() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    assert lints(expose(Names.STEPWATT)) == set()


def test_promtool_says_of_the_dcgm_names_what_it_says_of_dcgm_exporter() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    names = {metric.dcgm_name for metric in METRICS if metric.dcgm_name}
    assert lints(expose(Names.DCGM)) == {
        *(f"{name} label names should be written in 'snake_case' not 'camelCase'" for name in names),
        *(f'{name} counter metrics should have "_total" suffix' for name in DCGM_COUNTERS),
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER metric name should not include type 'counter'",
    }


def test_dcgm_names_have_the_types_of_dcgm_exporter() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    types = dict(re.findall(r"# TYPE (\S+) (\S+)", expose(Names.DCGM)))
    assert len(types) == sum(bool(metric.dcgm_name) for metric in METRICS)
    assert {name for name, kind in types.items() if kind == "counter"} == DCGM_COUNTERS


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", "29"),
        ("DCGM_FI_DEV_FB_USED", "81121"),
        ("DCGM_FI_DEV_POWER_USAGE", "683.412000"),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "5551899580"),
        ("DCGM_FI_DEV_SM_CLOCK", "1980"),
    ],
)
def test_dcgm_values_are_printed_as_dcgm_exporter_does(name: str, printed: str) -> None:
    make_host()
    labels = (
        f'gpu="0",UUID="{UUID}",pci_bus_id="00000000:31:00.0",device="nvidia0",'
        'modelName="NVIDIA L4",Hostname="gpu-a01",DCGM_FI_DRIVER_VERSION="580.105.08"'
    )
    assert f"{name}{{{labels}}} {printed}\n" in expose(Names.DCGM)


def test_the_host_label_of_the_dcgm_names_can_be_chosen(settings: LazySettings) -> None:
    settings.STEPWATT_DCGM_HOSTNAME_LABEL = "hostname"
    make_host()
    assert ',hostname="gpu-a01",' in expose(Names.DCGM)


def test_devices_of_other_vendors_have_no_dcgm_names() -> None:
    make_host(kind=DeviceKind.CPU, model="EPYC")
    assert expose(Names.DCGM) == ""


def test_an_absent_reading_is_left_out() -> None:
    make_host(values={"temperature_celsius": 40}, absent={"power_draw_watts": "not_supported"})
    text = expose()
    assert "temperature" in text
    assert "power" not in text.lower()


def test_a_lost_device_is_told_as_down_and_has_no_readings() -> None:
    make_host(values={}, absent={"power_draw_watts": "gpu_is_lost"})
    found = samples(expose())
    assert found["stepwatt_device_up"] == 0
    assert "stepwatt_power_draw_watts" not in found
    assert "DCGM_FI_DEV_POWER_USAGE" not in found


def test_a_silent_host_is_told_as_down_and_its_series_end() -> None:
    make_host(seconds_ago=31)
    found = samples(expose())
    assert set(found) == {"stepwatt_host_info", "stepwatt_host_up", "stepwatt_host_last_sample_timestamp_seconds"}
    assert found["stepwatt_host_up"] == 0


def test_a_recording_is_not_shown_as_the_present() -> None:
    make_host(seconds_ago=1_000_000, origin=Origin.IMPORTED)
    assert set(samples(expose())) == {"stepwatt_host_info", "stepwatt_host_last_sample_timestamp_seconds"}


def test_its_queries_do_not_grow_with_the_fleet(django_assert_num_queries) -> None:
    make_host()
    make_host("gpu-a02", uuid="GPU-2")
    with django_assert_num_queries(6):
        expose()


# The endpoint -------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(client: Client) -> Client:
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {create_token('prometheus', Role.VIEWER)}"
    return client


def test_nobody_reads_it_without_a_token(client: Client) -> None:
    response = client.get("/metrics")
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_anybody_reads_it_where_the_setting_says_so(client: Client, settings: LazySettings) -> None:
    settings.STEPWATT_METRICS_ANONYMOUS = True
    assert client.get("/metrics").status_code == 200


def test_a_signed_in_person_reads_it(client: Client, django_user_model: type) -> None:
    client.force_login(django_user_model.objects.create_user("ada"))
    assert client.get("/metrics").status_code == 200


def test_a_token_reads_the_newest_values(reader: Client) -> None:
    make_host(now=timezone.now())
    assert samples(reader.get("/metrics").content.decode())["stepwatt_power_draw_watts"] == 683.412


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        ("text/html", TEXT),
        ("text/plain,application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.5", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_the_accept_header_chooses_the_format(reader: Client, accept: str, content_type: str) -> None:
    response = reader.get("/metrics", headers={"accept": accept})
    assert response["Content-Type"] == content_type
    assert response.content.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


def test_one_host_can_be_asked_for(reader: Client) -> None:
    make_host(now=timezone.now())
    make_host("gpu-a02", now=timezone.now(), uuid="GPU-2")
    text = reader.get("/metrics?host=gpu-a02").content.decode()
    assert "gpu-a02" in text
    assert "gpu-a01" not in text


def test_one_naming_can_be_asked_for(reader: Client) -> None:
    make_host(now=timezone.now())
    assert "stepwatt_" not in reader.get("/metrics?names=dcgm").content.decode()
    assert "DCGM_" not in reader.get("/metrics?names=stepwatt").content.decode()


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("names=all", 400, "names"),
        ("names=", 400, "names"),
        ("names=dcgm&names=stepwatt", 400, "names"),
        ("cluster=alpha", 400, "cluster"),
        ("host=nobody", 404, "host"),
        ("host=", 404, "host"),
    ],
)
def test_it_names_the_parameter_that_it_refuses(reader: Client, query: str, status: int, field: str) -> None:
    response = reader.get(f"/metrics?{query}")
    assert response.status_code == status
    assert response.json()["error"]["field"] == field
