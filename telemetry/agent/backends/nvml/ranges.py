"""What a reading can be believed to be: sentinels of 32 and 64 bits lie above, and what lies within fits the wire.

Called when a reading is prepared, once per metric; the comparison itself is in the readers' loops.
"""

from telemetry import catalog
from telemetry.agent.backends.nvml.readings import NVLINK_BIT_ERROR_CODES, NVLINK_RECEIVED, NVLINK_SENT

_CEILINGS = {
    "ratio": 1,
    "watts": 1e5,
    "celsius": 250,
    "hertz": 1e11,
    "bytes": 2**50,
    "bytes_per_second": 1e14,
    "joules": 2**53 / 1000,
    "seconds": 2**53 / 1e6,  # in the metric's resolution of 1 µs; all bits of 63 set, read as ns, lie above
    "flag": 1,
    "code": 10_000,
    "generation": 100,
    "lanes": 1000,
}
_COUNT_CEILING = 2**32 - 2

_OF_ITS_OWN = {
    "fan_speed_ratio": (0, 2),  # nvml.h: "may exceed 100% in certain cases"
    NVLINK_SENT: (0, 2**62),  # counters that make a rate: everything is believed below all bits of 63
    NVLINK_RECEIVED: (0, 2**62),
    **dict.fromkeys(NVLINK_BIT_ERROR_CODES, (0, 2**12 - 1)),
    # Counted bit by bit, most of them repaired: a bad link makes more than 32 bits hold.
    "nvlink_symbol_errors_total": (0, 2**53),
    "nvlink_effective_errors_total": (0, 2**53),
    "memory_temperature_celsius": (1, 250),  # boards without the sensor say 0 (dcgm-exporter on a T4)
}


def believable(metric: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric of the catalogue can have, in base units.

    NaN lies in no range, since it compares false.
    """
    if metric in _OF_ITS_OWN:
        return _OF_ITS_OWN[metric]
    return 0, _CEILINGS.get(catalog.BY_NAME[metric].unit, _COUNT_CEILING)
