"""NVLink 5 (Blackwell and newer): what its field values mean, which have taken the place of the error counters by link.

Called by board.py each tick, after the field values were read. Source: nvml.h, NVML_FI_DEV_NVLINK_COUNT_….
"""

from telemetry.agent.backends.nvml.nvlink import ERRORS, total
from telemetry.agent.backends.nvml.readings import NVLINK_BIT_ERROR_CODES
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

# What comes in damaged, what does not go out, and the links' own breaks: by nvml.h's words no two count the same.
_PARTS = ("nvlink_rx_errors_total", "nvlink_tx_discards_total", "nvlink_recoveries_total")
NVLINK_5 = frozenset({*NVLINK_BIT_ERROR_CODES, *_PARTS})  # a board that offers any of these has something to derive

_EXPONENT_BITS, _MANTISSA_BITS = 8, 4  # NVML_NVLINK_ERROR_COUNTER_BER_GET


def derive_nvlink5(readings: dict[str, Reading]) -> None:
    """Put the bit error ratios in the place of their codes, and the sum of the errors, where the board offers these."""
    for code_name, metric in NVLINK_BIT_ERROR_CODES.items():
        code = readings.pop(code_name, None)
        if code is not None:
            readings[metric] = code if isinstance(code, AbsentReason) else bit_error_ratio(int(code))
    if all(readings[part] is not AbsentReason.NOT_SUPPORTED for part in _PARTS):
        readings[ERRORS] = total([readings[part] for part in _PARTS])


def bit_error_ratio(code: int) -> Reading:
    """Return errors per bit: bits 0 to 7 are the exponent, 8 to 11 the mantissa, such as 15e-255 of a link without errors."""
    exponent, mantissa = code & (1 << _EXPONENT_BITS) - 1, code >> _EXPONENT_BITS & (1 << _MANTISSA_BITS) - 1
    ratio = float(f"{mantissa}e-{exponent}")
    return ratio if code < 1 << _EXPONENT_BITS + _MANTISSA_BITS and ratio <= 1 else AbsentReason.UNKNOWN
