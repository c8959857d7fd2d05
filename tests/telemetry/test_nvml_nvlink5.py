"""NVLink 5's counters as fields, through the real bindings and the stubbed driver (tests/nvml_stub)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import catalog
from telemetry.agent.backends.nvml.nvlink5 import bit_error_ratio
from telemetry.catalog import AbsentReason
from tests.telemetry.nvml_devices import uuid_of

FIELD_VALUES = "nvmlDeviceGetFieldValues"
LINK_ERRORS = "nvmlDeviceGetNvLinkErrorCounter"
COUNTERS = {
    206: "nvlink_rx_malformed_total",
    207: "nvlink_rx_overruns_total",
    208: "nvlink_rx_errors_total",
    209: "nvlink_rx_remote_errors_total",
    210: "nvlink_rx_general_errors_total",
    211: "nvlink_integrity_errors_total",
    212: "nvlink_tx_discards_total",
    213: "nvlink_recoveries_succeeded_total",
    214: "nvlink_recoveries_failed_total",
    215: "nvlink_recoveries_total",
    219: "nvlink_effective_errors_total",
    221: "nvlink_symbol_errors_total",
}
RATIOS = {220: "nvlink_effective_bit_error_ratio", 222: "nvlink_symbol_bit_error_ratio"}
METRICS = {*COUNTERS.values(), *RATIOS.values()}


@pytest.fixture
def b200(rig, nvml_stub):
    nvml_stub.make_b200(0)
    rig.backend.open()
    rig.tick()
    return rig


def test_every_row_of_the_catalogue_is_one_of_these():
    assert {m.name for m in catalog.METRICS if m.source.startswith("NVML_FI_DEV_NVLINK_COUNT_")} == METRICS


def test_a_b200_gives_all_of_them_over_all_its_links(b200):
    found = b200.read(0)
    assert {name: found[name] for name in COUNTERS.values()} == {name: n - 201 for n, name in COUNTERS.items()}
    assert {found[name] for name in RATIOS.values()} == {15e-255}


def test_they_come_with_the_other_fields_that_are_kept_in_one_call(b200, nvml_stub):
    asked = nvml_stub.calls(FIELD_VALUES, 0)
    assert b200.read(0)["ecc_corrected_total"] == 3
    assert nvml_stub.calls(FIELD_VALUES, 0) == asked + 2  # with that of what is asked each tick


def test_a_board_with_an_older_nvlink_has_none_and_is_not_asked_each_tick(b200, nvml_stub):
    asked = [nvml_stub.calls(f"field:{n}", 1) for n in (*COUNTERS, *RATIOS)]
    found = b200.read(1)
    assert {found[name] for name in METRICS} == {AbsentReason.NOT_SUPPORTED}
    assert [nvml_stub.calls(f"field:{n}", 1) for n in (*COUNTERS, *RATIOS)] == asked


def test_a_b200_is_not_asked_for_the_counters_by_link(b200, nvml_stub):
    asked = nvml_stub.calls(LINK_ERRORS, 0)
    found = b200.read(0, seconds=10)
    assert found["nvlink_replay_errors_total"] is AbsentReason.NOT_SUPPORTED
    assert nvml_stub.calls(LINK_ERRORS, 0) == asked


def test_its_errors_are_damaged_and_discarded_packets_and_recoveries(b200, nvml_stub):
    nvml_stub.write(["b200 0", "answer 0 field:208 100", "answer 0 field:212 20", "answer 0 field:215 3"])
    assert b200.read(0)["nvlink_errors_total"] == 123


@pytest.mark.parametrize("field", [208, 212, 215])
def test_without_one_of_them_there_is_no_sum(b200, nvml_stub, field):
    nvml_stub.add(f"timeout 0 field:{field}")
    found = b200.read(0)
    assert found[COUNTERS[field]] is AbsentReason.TIMEOUT
    assert found["nvlink_errors_total"] is AbsentReason.TIMEOUT


@pytest.mark.parametrize("field", RATIOS)
@pytest.mark.parametrize(("code", "ratio"), [(15 << 8 | 255, 15e-255), (3 << 8 | 12, 3e-12), (1 << 8, 1), (7, 0)])
def test_a_bit_error_ratio_is_its_mantissa_at_its_exponent(b200, nvml_stub, field, code, ratio):
    nvml_stub.add(f"answer 0 field:{field} {code}")
    assert b200.read(0)[RATIOS[field]] == pytest.approx(ratio)


@pytest.mark.parametrize("raw", [2**64 - 1, 2**32 - 1, 1 << 12, 2 << 8])
def test_a_code_that_is_no_share_of_bits_is_no_value(b200, nvml_stub, raw):
    nvml_stub.add(f"answer 0 field:220 {raw}")
    assert b200.read(0)["nvlink_effective_bit_error_ratio"] is AbsentReason.UNKNOWN


@pytest.mark.parametrize("field", [*COUNTERS, *RATIOS])
def test_a_sentinel_is_never_a_value(b200, nvml_stub, field):
    nvml_stub.add(f"sentinel 0 field:{field}")
    assert b200.read(0)[{**COUNTERS, **RATIOS}[field]] is AbsentReason.UNKNOWN


def test_damaged_symbols_may_be_more_than_32_bits_hold(b200, nvml_stub):
    nvml_stub.add(f"answer 0 field:221 {2**40}")
    assert b200.read(0)["nvlink_symbol_errors_total"] == 2**40


def test_of_a_lost_b200_nothing_counts(b200, nvml_stub):
    nvml_stub.fail(0, "field:220", 15)
    found = b200.tick()[uuid_of(0)]
    assert {found[name] for name in METRICS} == {AbsentReason.GPU_IS_LOST}


@given(code=st.integers(0, 2**64 - 1))
def test_whatever_the_code_the_ratio_is_a_share_or_unknown(code):
    found = bit_error_ratio(code)
    assert found is AbsentReason.UNKNOWN or 0 <= found <= 1


@pytest.mark.parametrize("name", RATIOS.values())
def test_the_ratio_of_a_working_link_is_not_rounded_away(name):
    step = catalog.BY_NAME[name].resolution
    assert round(3e-12 / step) * step == pytest.approx(3e-12)
