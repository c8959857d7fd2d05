"""What to ask of an AMD device, and how its answers become readings in base units. Called by the AMD backend.

Missing values are the string "N/A" or the largest number of their width. No Django, no torch, and no import of amdsmi.
Source: ROCm's amdsmi Python reference; units from its C header (W, MHz, °C, MB, and µW for caps).
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import BY_NAME, AbsentReason

Smi = Any  # the module amdsmi, or a stand-in with its shapes
Ask = Callable[[Smi, Any], Any]  # (amdsmi, handle) → answer
Take = Callable[[Any], object]  # one reading out of the answer, in base units where it is a number

_MIB = 2**20
_GENERATIONS = {2500: 1, 5000: 2, 8000: 3, 16000: 4, 32000: 5, 64000: 6}  # PCIe: MT/s per lane

# amdsmi_status_t; the wrapper's exceptions carry them in `err_code`.
REASONS = {
    2: AbsentReason.NOT_SUPPORTED,
    3: AbsentReason.NOT_SUPPORTED,  # not yet implemented
    8: AbsentReason.TIMEOUT,
    10: AbsentReason.NO_PERMISSION,
    31: AbsentReason.GPU_IS_LOST,  # device not found
    33: AbsentReason.NOT_SUPPORTED,  # no such sensor slot
    40: AbsentReason.NOT_SUPPORTED,  # no data for this input
}

# The driver's flags in the bits of NVML's clock event reasons, so that one word means one thing on every page.
_REASON_BITS = {"active_ppt_pwr": 0x4, "active_prochot_thrm": 0x8, "active_socket_thrm": 0x40, "active_vr_thrm": 0x40,
                "active_hbm_thrm": 0x40}  # fmt: skip

_CEILINGS = {
    "ratio": 1, "watts": 1e5, "celsius": 250, "hertz": 1e11, "bytes": 2**50, "joules": 2**53 / 1000, "lanes": 32,
    "generation": 16,
}  # fmt: skip
_COUNT_CEILING = 2**32 - 2
_LEAST = {"power_limit_watts": 1.0, "temperature_celsius": 1.0, "memory_temperature_celsius": 1.0}


def _first(answer: Mapping[str, Any], *keys: str) -> object:
    """Return the first value that is a number: names changed between ROCm's versions, and boards fill different ones."""
    found = (answer.get(key) for key in keys)
    return next((value for value in found if _is_number(value) and value not in {0xFFFF, 0xFFFF_FFFF}), "N/A")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(value: object, factor: float) -> object:
    return value * factor if isinstance(value, int | float) and not isinstance(value, bool) else value


def _temperature(smi: Smi, handle: Any, *sensors: str) -> object:
    """Return the first sensor that answers; raises what the last one raised."""
    for sensor in sensors[:-1]:
        with contextlib.suppress(smi.AmdSmiLibraryException):
            return _read_sensor(smi, handle, sensor)
    return _read_sensor(smi, handle, sensors[-1])


def _read_sensor(smi: Smi, handle: Any, sensor: str) -> object:
    kind = getattr(smi.AmdSmiTemperatureType, sensor)
    return smi.amdsmi_get_temp_metric(handle, kind, smi.AmdSmiTemperatureMetric.CURRENT)


def _energy(answer: Mapping[str, Any]) -> object:
    count, microjoules = answer.get("energy_accumulator", answer.get("power")), answer.get("counter_resolution")
    return count * microjoules / 1e6 if isinstance(count, int | float) and isinstance(microjoules, float) else "N/A"


def _clock_reasons(answer: Mapping[str, Any]) -> object:
    flags = {name: answer.get(name) for name in _REASON_BITS}
    if not any(isinstance(flag, bool | int) for flag in flags.values()):
        return "N/A"
    mask = 0
    for name, flag in flags.items():
        mask |= _REASON_BITS[name] if flag is True or flag == 1 else 0
    return mask


# One line a reading; lines of the same call share its answer.
CALLS: Sequence[tuple[Ask, Mapping[str, Take]]] = (
    (lambda smi, handle: smi.amdsmi_get_gpu_activity(handle), {
        "gpu_utilization_ratio": lambda a: _scaled(a["gfx_activity"], 0.01),
        "memory_controller_utilization_ratio": lambda a: _scaled(a["umc_activity"], 0.01),
        "encoder_utilization_ratio": lambda a: _scaled(a["mm_activity"], 0.01),
    }),
    (lambda smi, handle: smi.amdsmi_get_power_info(handle), {
        "power_draw_watts": lambda a: _first(a, "current_socket_power", "average_socket_power", "socket_power"),
    }),
    (lambda smi, handle: smi.amdsmi_get_power_cap_info(handle), {
        "power_limit_watts": lambda a: _scaled(a["power_cap"], 1e-6),
    }),
    (lambda smi, handle: smi.amdsmi_get_energy_count(handle), {"energy_joules_total": _energy}),
    (lambda smi, handle: smi.amdsmi_get_gpu_vram_usage(handle), {
        "memory_total_bytes": lambda a: _scaled(a["vram_total"], _MIB),
        "memory_used_bytes": lambda a: _scaled(a["vram_used"], _MIB),
        "memory_free_bytes": lambda a: _scaled(a["vram_total"] - a["vram_used"], _MIB),
        "memory_used_ratio": lambda a: a["vram_used"] / a["vram_total"] if a["vram_total"] else "N/A",
    }),
    (lambda smi, handle: _temperature(smi, handle, "EDGE", "HOTSPOT"), {"temperature_celsius": lambda a: a}),
    (lambda smi, handle: _temperature(smi, handle, "VRAM"), {"memory_temperature_celsius": lambda a: a}),
    (lambda smi, handle: smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.GFX), {
        "sm_clock_hertz": lambda a: _scaled(_first(a, "clk", "cur_clk"), 1e6),
        "sm_clock_max_hertz": lambda a: _scaled(_first(a, "max_clk"), 1e6),
    }),
    (lambda smi, handle: smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.MEM), {
        "memory_clock_hertz": lambda a: _scaled(_first(a, "clk", "cur_clk"), 1e6),
    }),
    (lambda smi, handle: smi.amdsmi_get_violation_status(handle), {"clock_event_reasons": _clock_reasons}),
    (lambda smi, handle: smi.amdsmi_get_gpu_total_ecc_count(handle), {
        "ecc_corrected_total": lambda a: a["correctable_count"],
        "ecc_uncorrected_total": lambda a: a["uncorrectable_count"],
    }),
    (lambda smi, handle: smi.amdsmi_get_pcie_info(handle), {
        "pcie_replay_total": lambda a: a["pcie_metric"]["pcie_replay_count"],
        "pcie_link_width": lambda a: a["pcie_metric"]["pcie_width"],
        "pcie_link_width_max": lambda a: a["pcie_static"]["max_pcie_width"],
        "pcie_link_generation": lambda a: _GENERATIONS.get(a["pcie_metric"]["pcie_speed"], "N/A"),
        "pcie_link_generation_max": lambda a: _GENERATIONS.get(a["pcie_static"]["max_pcie_speed"], "N/A"),
    }),
)  # fmt: skip

METRICS = tuple(name for _, takes in CALLS for name in takes)
SHAPE_ERRORS = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # an answer of another ROCm's shape


def believed(metric: str, value: object) -> Reading:
    """Return the value if a device can have it, else why it is absent."""
    if value == "N/A" or value is None:
        return AbsentReason.NOT_SUPPORTED
    if not isinstance(value, int | float) or isinstance(value, bool):
        return AbsentReason.UNKNOWN
    ceiling = _CEILINGS.get(BY_NAME[metric].unit, _COUNT_CEILING)
    return value if _LEAST.get(metric, 0) <= value <= ceiling else AbsentReason.UNKNOWN  # NaN compares false
