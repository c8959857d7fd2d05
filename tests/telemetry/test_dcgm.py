"""The exposition under dcgm-exporter's names: what its dashboards and alert rules look for is there, as it prints it."""

import re
from pathlib import Path

import pytest
from django.conf import LazySettings
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import DeviceKind
from telemetry.catalog import BY_NAME, METRICS
from telemetry.exposition import dcgm
from telemetry.exposition.own_names import Names
from tests.telemetry.exposed import UUID, add_device, expose, make_host
from tests.telemetry.test_exposition import add_mig, lints

pytestmark = pytest.mark.django_db
COUNTERS_FILE = Path(__file__).parent.parent / "data" / "dcgm_exporter" / "default-counters.csv"
# dcgm-exporter's file has these twice, as a counter that is commented out and as a gauge that counts.
GAUGES = {"DCGM_FI_PROF_PCIE_TX_BYTES", "DCGM_FI_PROF_PCIE_RX_BYTES"}

LABELS = (
    f'gpu="0",UUID="{UUID}",pci_bus_id="00000000:31:00.0",device="nvidia0",'
    'modelName="NVIDIA L4",Hostname="gpu-a01",DCGM_FI_DRIVER_VERSION="580.105.08"'
)


def counters(*, with_comments: bool = False) -> dict[str, str]:
    """Return type by name, as dcgm-exporter's own file has them; with those that it offers as comments, too."""
    row = re.compile(rf"^{'(?:# )?' if with_comments else ''}(DCGM_FI_\w+) *, *(gauge|counter),", re.MULTILINE)
    return dict(row.findall(COUNTERS_FILE.read_text()))


def types() -> dict[str, str]:
    return dict(re.findall(r"# TYPE (\S+) (\S+)", expose(Names.DCGM)))


def test_every_metric_that_dcgm_exporter_offers_by_default_is_there() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    assert len(counters()) == 25
    assert counters().keys() <= types().keys()


def test_names_have_the_types_of_dcgm_exporter() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    known = counters(with_comments=True) | dict.fromkeys(GAUGES, "gauge")
    found = {name: kind for name, kind in types().items() if name in known}
    assert len(found) > 35
    assert found == {name: known[name] for name in found}


def test_each_dcgm_name_stands_for_one_metric() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    names = [metric.dcgm_name for metric in METRICS if metric.dcgm_name]
    assert sorted(types()) == sorted(names)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", "29"),
        ("DCGM_FI_DEV_FB_USED", "81121"),
        ("DCGM_FI_DEV_FB_USED_PERCENT", "0.991200"),
        ("DCGM_FI_DEV_POWER_USAGE", "683.412000"),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "5551899580"),
        ("DCGM_FI_DEV_SM_CLOCK", "1980"),
        ("DCGM_FI_DEV_GPU_TEMP", "61"),
        ("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "47185"),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "0.581200"),
    ],
)
def test_values_are_printed_as_dcgm_exporter_does(name: str, printed: str) -> None:
    make_host()
    assert f"{name}{{{LABELS}}} {printed}\n" in expose(Names.DCGM)


@pytest.mark.parametrize(
    ("metric", "value", "name", "printed"),
    [
        ("gpu_utilization_ratio", 0.57, "DCGM_FI_DEV_GPU_UTIL", "57"),  # 56.999… in floating point
        ("memory_used_bytes", 470.9 * 2**20, "DCGM_FI_DEV_FB_USED", "470"),
        ("memory_total_bytes", 85_899_345_920, "DCGM_FI_DEV_FB_TOTAL", "81920"),
        ("energy_joules_total", 9_007_199_254.741, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "9007199254741"),
        ("power_throttle_seconds_total", 12.000001, "DCGM_FI_DEV_POWER_VIOLATION", "12000001000"),
        ("temperature_celsius", 61.9, "DCGM_FI_DEV_GPU_TEMP", "61"),
    ],
)
def test_whole_numbers_are_cut_as_dcgm_cuts_them(metric: str, value: float, name: str, printed: str) -> None:
    make_host(values={metric: value})
    assert f"{name}{{{LABELS}}} {printed}\n" in expose(Names.DCGM)


@pytest.mark.parametrize(
    ("code", "message"), [(79, "GPU has fallen off the bus"), (0, "No Error"), (9999, "Unknown XID")]
)
def test_an_xid_has_its_code_and_its_words(code: int, message: str) -> None:
    make_host(values={"xid_last": code})
    line = f'DCGM_FI_DEV_XID_ERRORS{{{LABELS},err_code="{code}",err_msg="{message}"}} {code}\n'
    assert line in expose(Names.DCGM)


def test_xids_of_several_devices_keep_apart() -> None:
    gpu = make_host(values={"xid_last": 79})
    add_device(gpu.host, {"xid_last": 0}, uuid="GPU-2", kind=DeviceKind.NVIDIA, index=1)
    found = [sample for family in read_text(expose(Names.DCGM)) for sample in family.samples]
    assert [(s.labels["gpu"], s.labels["err_code"], s.value) for s in found] == [("0", "79", 79), ("1", "0", 0)]


def test_a_mig_instance_has_its_gpus_labels_and_its_own() -> None:
    add_mig(make_host())
    labels = LABELS.replace(",Hostname", ',GPU_I_PROFILE="1g.10gb",GPU_I_ID="3",Hostname')
    assert f"DCGM_FI_DEV_FB_USED{{{labels}}} 1024\n" in expose(Names.DCGM)


def test_the_host_label_can_be_chosen(settings: LazySettings) -> None:
    settings.STEPWATT_DCGM_HOSTNAME_LABEL = "hostname"
    make_host()
    text = expose(Names.DCGM)
    assert ',hostname="gpu-a01",' in text
    assert "Hostname" not in text


def test_devices_of_other_vendors_have_no_dcgm_names() -> None:
    make_host(kind=DeviceKind.CPU, model="EPYC")
    assert expose(Names.DCGM) == ""


def test_promtool_says_of_the_dcgm_names_what_it_says_of_dcgm_exporter() -> None:
    make_host(values=dict.fromkeys(BY_NAME, 1.0))
    found, names = lints(expose(Names.DCGM)), types()
    camel_case = {f"{name} label names should be written in 'snake_case' not 'camelCase'" for name in names}
    without_total = {
        f'{name} counter metrics should have "_total" suffix' for name, kind in names.items() if kind == "counter"
    }
    assert found - camel_case - without_total == {
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER metric name should not include type 'counter'"
    }


def test_units_are_named_where_the_number_is_no_count() -> None:
    units = {dcgm.unit(metric) for metric in METRICS if metric.dcgm_name}
    assert units == {"%", "MiB", "mJ", "MHz", "ns", "W", "C", "B/s", "1000 KiB/s", ""}
