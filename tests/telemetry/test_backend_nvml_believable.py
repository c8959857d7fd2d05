"""Whatever the driver answers, the NVML backend neither raises nor invents a value."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry import catalog
from telemetry.agent.backends.nvml.conversion import Conversion
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import ANSWERING_CALLS, FIELDS, GPM, instance_of, uuid_of

OTHER_CALLS = [
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetNvLinkErrorCounter",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
]
TWO_BOARDS = ["devices 2"]
NVLINK_5 = [f"field:{number}" for number in (206, 208, 212, 215, 219, 220, 221, 222)]
ALL_FIELDS = [*FIELDS, *NVLINK_5]
ONE_LINK = [f"link:{link}" for link in (0, 9, 17)]
LICENSABLE = "nvmlDeviceGetGridLicensableFeatures_v4"
VALUES = [*ANSWERING_CALLS, *ALL_FIELDS, *GPM, "nvmlDeviceGetNvLinkErrorCounter", LICENSABLE]


def _faults():
    codes = st.sampled_from([0, 1, 2, 3, 4, 6, 9, 10, 13, 15, 16, 25, 999]) | st.integers(1, 2000)
    raws = st.sampled_from([0, 1, 100, 101, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)
    return st.lists(
        st.builds("fail 0 {} {}".format, st.sampled_from([*VALUES, *OTHER_CALLS, *ONE_LINK]), codes)
        | st.builds("answer 0 {} {}".format, st.sampled_from(VALUES), raws)
        | st.builds("type 0 {} {}".format, st.sampled_from(ALL_FIELDS), st.integers(0, 9))
        | st.builds("nan 0 {}".format, st.sampled_from([*ALL_FIELDS, *GPM]))
        | st.sampled_from(["lost 0", "removed 0", "reset_required 0", "reversed", "a100 0", "mig 0 1g.10gb,-,2g.20gb"])
        | st.sampled_from(["mig 0 3g.40gb", "mig 0 1c.3g.40gb,&2c.3g.40gb", "unloaded", "b200 0"]),
        max_size=12,
    )


def believable(readings):
    return all(
        isinstance(value, AbsentReason)
        or (
            math.isfinite(value)
            and 0 <= value / catalog.BY_NAME[name].resolution <= 2**53
            and not (catalog.BY_NAME[name].unit == "ratio" and value > (2 if name == "fan_speed_ratio" else 1))
        )
        for name, value in readings.items()
    )


def _tick(rig, seconds):
    try:
        return rig.tick(seconds)
    except BackendUnavailable:  # the sampler opens it again: so does the next example
        return {}


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(lines=_faults(), later=_faults(), seconds=st.sampled_from([0.05, 1, 10, 31]))
def test_whatever_the_driver_answers_a_reading_is_believable_or_absent(opened, nvml_stub, lines, later, seconds):
    nvml_stub.write(TWO_BOARDS)
    opened.backend.open()
    for fault in ([], lines, later):
        nvml_stub.write(TWO_BOARDS + fault)
        for _ in range(2):
            for uuid, readings in _tick(opened, seconds).items():
                assert believable(readings), uuid
                assert set(readings) <= set(catalog.BY_NAME)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(lines=_faults())
def test_it_recovers_from_whatever_the_driver_answered(opened, nvml_stub, lines):
    nvml_stub.write(TWO_BOARDS + lines)
    _tick(opened, 1)
    nvml_stub.write(TWO_BOARDS)
    opened.backend.open()
    opened.tick()
    found = opened.tick()
    assert {uuid_of(0), uuid_of(1)} <= set(found)
    assert found[uuid_of(0)]["power_draw_watts"] > 0
    assert instance_of(0, 1) not in found


@pytest.mark.parametrize("metric", ["power_draw_watts", "sm_active_ratio", "xid_errors_total"])
@given(raw=st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**63), 2**64 - 1))
def test_a_converted_number_is_believable_or_absent(metric, raw):
    readings = {}
    Conversion([metric, "temperature_celsius"], [1, 1]).put([raw, 40], readings)
    assert believable(readings)
    assert readings["temperature_celsius"] == 40


@given(raws=st.lists(st.floats(), min_size=3, max_size=3))
def test_converting_many_at_once_gives_what_converting_each_alone_gives(raws):
    metrics = ["power_draw_watts", "memory_temperature_celsius", "sm_active_ratio"]
    together, alone = {}, {}
    Conversion(metrics, [1, 1, 1]).put(raws, together)
    for metric, raw in zip(metrics, raws, strict=True):
        Conversion([metric], [1]).put([raw], alone)
    assert together == alone
