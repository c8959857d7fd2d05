"""Which driver call gives which reading: one line each, in the vendor's unit. Adding a metric is a line here.

Where a metric stands in several lines, the first that the device offers counts: of what is asked each tick a field comes
before a call, of the others a call before a field. Read by the device's readers; holds no
driver state. Source: nvml.h and the NVML API reference.
"""

from dataclasses import dataclass

import pynvml

# The vendor's units: a raw value divided by this is in the base unit. Division, since 345678 / 1000 is 345.678 and
# 345678 * 0.001 is not; a division by 1e-6 gives every whole number of MHz back exactly.
AS_IS, PERCENT, MILLI, NANO = 1, 100, 1000, 10**9
MIB, MEGA = 2**-20, 1e-6


@dataclass(frozen=True, slots=True)
class Call:
    """A driver call: `symbol(handle, *arguments, answer...)`. `pointers` are the struct formats of its answers.

    An answer that is a struct which states its version begins with it.
    """

    symbol: str
    pointers: tuple[str, ...]
    arguments: tuple[int, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class CallLine:
    """`member` counts the numbers in all answers of the call. What is `fixed` for a board is asked once.

    What is `kept` is asked every few seconds (pace.py), what is `slow` half as often, and stands in the ticks between: all
    lines of a call alike.
    """

    metric: str
    call: Call
    divisor: float = AS_IS
    member: int = 0
    fixed: bool = False
    kept: bool = False
    slow: bool = False


@dataclass(frozen=True, slots=True)
class FieldLine:
    """A field value; `scope` is what the field's description in nvml.h says (a link, or power of the module).

    What is `slow` is asked as seldom as a call's line that is.
    """

    metric: str
    field_id: int
    divisor: float = AS_IS
    scope: int = 0
    slow: bool = False


@dataclass(frozen=True, slots=True)
class GpmLine:
    metric: str
    gpm_id: int
    divisor: float = PERCENT


def _number(symbol: str, *arguments: int) -> Call:
    return Call(symbol, ("I",), arguments)


def _long(symbol: str) -> Call:
    return Call(symbol, ("Q",))


_UTILIZATION = Call("nvmlDeviceGetUtilizationRates", ("II",))
_ENCODER = Call("nvmlDeviceGetEncoderUtilization", ("I", "I"))
_DECODER = Call("nvmlDeviceGetDecoderUtilization", ("I", "I"))
_MEMORY = Call("nvmlDeviceGetMemoryInfo_v2", ("I4xQQQQ",), version=pynvml.nvmlMemory_v2)
MEMORY_BEFORE_510 = Call("nvmlDeviceGetMemoryInfo", ("QQQ",))

# What MIG instances offer too.
MEMORY_LINES = (
    CallLine("memory_total_bytes", _MEMORY, member=1, kept=True),
    CallLine("memory_reserved_bytes", _MEMORY, member=2, kept=True),
    CallLine("memory_free_bytes", _MEMORY, member=3, kept=True),
    CallLine("memory_used_bytes", _MEMORY, member=4, kept=True),
    CallLine("memory_total_bytes", MEMORY_BEFORE_510, member=0, kept=True),
    CallLine("memory_free_bytes", MEMORY_BEFORE_510, member=1, kept=True),
    CallLine("memory_used_bytes", MEMORY_BEFORE_510, member=2, kept=True),
)

CALL_LINES = (
    CallLine("gpu_utilization_ratio", _UTILIZATION, PERCENT),
    CallLine("memory_controller_utilization_ratio", _UTILIZATION, PERCENT, member=1),
    CallLine("encoder_utilization_ratio", _ENCODER, PERCENT, kept=True),
    CallLine("decoder_utilization_ratio", _DECODER, PERCENT, kept=True),
    *MEMORY_LINES,
    CallLine("power_draw_watts", _number("nvmlDeviceGetPowerUsage"), MILLI),
    CallLine("power_limit_watts", _number("nvmlDeviceGetEnforcedPowerLimit"), MILLI, slow=True),
    CallLine("energy_joules_total", _long("nvmlDeviceGetTotalEnergyConsumption"), MILLI),
    CallLine("temperature_celsius", _number("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)),
    CallLine("sm_clock_hertz", _number("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM), MEGA),
    CallLine(
        "sm_clock_max_hertz", _number("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM), MEGA, fixed=True, slow=True
    ),
    CallLine("memory_clock_hertz", _number("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM), MEGA, kept=True),
    CallLine("clock_event_reasons", _long("nvmlDeviceGetCurrentClocksEventReasons")),
    CallLine("clock_event_reasons", _long("nvmlDeviceGetCurrentClocksThrottleReasons")),  # before driver 535
    CallLine("pcie_replay_total", _number("nvmlDeviceGetPcieReplayCounter"), slow=True),
    CallLine("pcie_link_generation", _number("nvmlDeviceGetCurrPcieLinkGeneration"), slow=True),
    CallLine("pcie_link_generation_max", _number("nvmlDeviceGetMaxPcieLinkGeneration"), fixed=True, slow=True),
    CallLine("pcie_link_width", _number("nvmlDeviceGetCurrPcieLinkWidth"), slow=True),
    CallLine("pcie_link_width_max", _number("nvmlDeviceGetMaxPcieLinkWidth"), fixed=True, slow=True),
    CallLine("fan_speed_ratio", _number("nvmlDeviceGetFanSpeed"), PERCENT, slow=True),
)

# Not metrics themselves: counters from which nvlink.py makes the rate.
NVLINK_SENT, NVLINK_RECEIVED = "nvlink sent", "nvlink received"
_ALL_LINKS = 2**32 - 1
# Nor are these: exponent and mantissa in one number, from which nvlink5.py makes the ratio.
_EFFECTIVE, _SYMBOL = "nvlink effective bit errors", "nvlink symbol bit errors"
NVLINK_BIT_ERROR_CODES = {
    _EFFECTIVE: "nvlink_effective_bit_error_ratio",
    _SYMBOL: "nvlink_symbol_bit_error_ratio",
}
# Counters that make metrics, and are none.
RAW_FIELDS = frozenset({NVLINK_SENT, NVLINK_RECEIVED, *NVLINK_BIT_ERROR_CODES})


def _nvlink5(metric: str, field_id: int) -> FieldLine:
    """Return the line of a counter of NVLink 5, over all links: nvml.h speaks of one link's, DCGM asks for all like this."""
    return FieldLine(metric, field_id, scope=_ALL_LINKS, slow=True)


# One driver call for all of them, with a return code each.
FIELD_LINES = (
    # The mean of a second, which nvmlDeviceGetPowerUsage gives as well where there is this field; it refuses on Grace Hopper.
    FieldLine("power_draw_watts", pynvml.NVML_FI_DEV_POWER_AVERAGE, MILLI),
    FieldLine("power_draw_instant_watts", pynvml.NVML_FI_DEV_POWER_INSTANT, MILLI),
    FieldLine("energy_joules_total", pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, MILLI),
    FieldLine("memory_temperature_celsius", pynvml.NVML_FI_DEV_MEMORY_TEMP, slow=True),
    FieldLine("power_throttle_seconds_total", pynvml.NVML_FI_DEV_PERF_POLICY_POWER, NANO, slow=True),
    # Not ..._CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, the same counter: its number is 251 in the headers of drivers 575
    # and 580 and 269 later, and 269 was a power profile's number before. This one has kept its number.
    FieldLine("thermal_throttle_seconds_total", pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL, NANO, slow=True),
    FieldLine("pcie_replay_total", pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER, slow=True),
    FieldLine("ecc_corrected_total", pynvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL, slow=True),
    FieldLine("ecc_uncorrected_total", pynvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL, slow=True),
    FieldLine("remapped_rows_corrected_total", pynvml.NVML_FI_DEV_REMAPPED_COR, slow=True),
    FieldLine("remapped_rows_uncorrected_total", pynvml.NVML_FI_DEV_REMAPPED_UNC, slow=True),
    FieldLine("row_remap_pending", pynvml.NVML_FI_DEV_REMAPPED_PENDING, slow=True),
    FieldLine("row_remap_failure", pynvml.NVML_FI_DEV_REMAPPED_FAILURE, slow=True),
    FieldLine("recovery_action", pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, slow=True),
    FieldLine(NVLINK_SENT, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, scope=_ALL_LINKS),
    FieldLine(NVLINK_RECEIVED, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, scope=_ALL_LINKS),
    _nvlink5("nvlink_rx_malformed_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_MALFORMED_PACKET_ERRORS),
    _nvlink5("nvlink_rx_overruns_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_BUFFER_OVERRUN_ERRORS),
    _nvlink5("nvlink_rx_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS),
    _nvlink5("nvlink_rx_remote_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_REMOTE_ERRORS),
    _nvlink5("nvlink_rx_general_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_GENERAL_ERRORS),
    _nvlink5("nvlink_integrity_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS),
    _nvlink5("nvlink_tx_discards_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_DISCARDS),
    _nvlink5("nvlink_recoveries_succeeded_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS),
    _nvlink5("nvlink_recoveries_failed_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS),
    _nvlink5("nvlink_recoveries_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS),
    _nvlink5("nvlink_effective_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_EFFECTIVE_ERRORS),
    _nvlink5(_EFFECTIVE, pynvml.NVML_FI_DEV_NVLINK_COUNT_EFFECTIVE_BER),
    _nvlink5("nvlink_symbol_errors_total", pynvml.NVML_FI_DEV_NVLINK_COUNT_SYMBOL_ERRORS),
    _nvlink5(_SYMBOL, pynvml.NVML_FI_DEV_NVLINK_COUNT_SYMBOL_BER),
)

# Hopper and newer: one driver call for all of them, over two samples.
GPM_LINES = (
    GpmLine("graphics_engine_active_ratio", pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL),
    GpmLine("sm_active_ratio", pynvml.NVML_GPM_METRIC_SM_UTIL),
    GpmLine("sm_occupancy_ratio", pynvml.NVML_GPM_METRIC_SM_OCCUPANCY),
    GpmLine("tensor_active_ratio", pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL),
    GpmLine("dram_active_ratio", pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL),
    GpmLine("fp64_active_ratio", pynvml.NVML_GPM_METRIC_FP64_UTIL),
    GpmLine("fp32_active_ratio", pynvml.NVML_GPM_METRIC_FP32_UTIL),
    GpmLine("fp16_active_ratio", pynvml.NVML_GPM_METRIC_FP16_UTIL),
    GpmLine("pcie_tx_bytes_per_second", pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC, MIB),
    GpmLine("pcie_rx_bytes_per_second", pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC, MIB),
    GpmLine("nvlink_tx_bytes_per_second", pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, MIB),
    GpmLine("nvlink_rx_bytes_per_second", pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, MIB),
)

# nvmlDeviceGetNvLinkErrorCounter, a call per link and counter.
NVLINK_ERROR_COUNTERS = {
    "nvlink_crc_flit_errors_total": pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
    "nvlink_crc_data_errors_total": pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
    "nvlink_replay_errors_total": pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
    "nvlink_recovery_errors_total": pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
}
