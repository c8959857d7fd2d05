"""The metric catalogue: one row per metric. Wire, store, exposition, API, chart labels and docs/metrics.md derive from it.

Adding a metric is one row here and one line in a backend. Ground floor: imports nothing of the project.
Sources: the NVML API reference and dcgm-exporter's default-counters.csv; the vendor's unit is converted to the
base unit once, in the vendor's backend, and DCGM's unit is made from the base unit once, by `dcgm_factor`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    GAUGE = "gauge"  # a level: averaged over time
    COUNTER = "counter"  # only grows; a fall is a reset (driver reload, reboot)
    STATE = "state"  # a code or bit mask: never averaged


class AbsentReason(StrEnum):
    """Why a reading is missing. Missing is never zero: it is left out, and shown as "—" with this reason."""

    NOT_SUPPORTED = "not_supported"
    NO_PERMISSION = "no_permission"
    GPU_IS_LOST = "gpu_is_lost"
    RESET_REQUIRED = "reset_required"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"

    @property
    def sentence(self) -> str:
        return _REASON_SENTENCES[self]


_REASON_SENTENCES = {
    AbsentReason.NOT_SUPPORTED: "not offered by this device or its driver",
    AbsentReason.NO_PERMISSION: "the agent has no permission to read it",
    AbsentReason.GPU_IS_LOST: "the device fell off the bus",
    AbsentReason.RESET_REQUIRED: "the device must be reset",
    AbsentReason.TIMEOUT: "the driver call does not return",
    AbsentReason.UNKNOWN: "the driver gave an answer that is not understood",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of a device, in base units.

    `resolution` is the smallest step that travels: values are sent as integers of that step, which is the vendor's
    own step, so that nothing is lost. `dcgm_factor` turns the base unit into that of the DCGM name.
    """

    name: str
    kind: Kind
    unit: str
    label: str
    help: str
    resolution: float
    dcgm_name: str = ""
    dcgm_factor: float = 1.0


_MIB = 1 / 2**20
_G, _C, _S = Kind.GAUGE, Kind.COUNTER, Kind.STATE

METRICS: tuple[Metric, ...] = (
    Metric("gpu_utilization_ratio", _G, "ratio", "Utilisation",
           "Share of time in which any kernel ran (CPU: share of time the cores were busy); not how full the device was.",
           1e-4, "DCGM_FI_DEV_GPU_UTIL", 100),
    Metric("memory_controller_utilization_ratio", _G, "ratio", "Memory controller",
           "Share of time in which device memory was being read or written; not the fraction in use.",
           1e-4, "DCGM_FI_DEV_MEM_COPY_UTIL", 100),
    Metric("encoder_utilization_ratio", _G, "ratio", "Encoder", "Share of time in which the video encoder was busy.",
           1e-4, "DCGM_FI_DEV_ENC_UTIL", 100),
    Metric("decoder_utilization_ratio", _G, "ratio", "Decoder", "Share of time in which the video decoder was busy.",
           1e-4, "DCGM_FI_DEV_DEC_UTIL", 100),
    Metric("memory_total_bytes", _G, "bytes", "Memory", "Memory of the device.", 1),
    Metric("memory_used_bytes", _G, "bytes", "Memory used", "Memory in use, without what the driver reserves.",
           1, "DCGM_FI_DEV_FB_USED", _MIB),
    Metric("memory_free_bytes", _G, "bytes", "Memory free", "Memory free to allocate.", 1, "DCGM_FI_DEV_FB_FREE", _MIB),
    Metric("memory_reserved_bytes", _G, "bytes", "Memory reserved", "Memory reserved by the driver.",
           1, "DCGM_FI_DEV_FB_RESERVED", _MIB),
    Metric("power_draw_watts", _G, "watts", "Power", "Power draw of the device (averaging window depends on the board).",
           1e-3, "DCGM_FI_DEV_POWER_USAGE"),
    Metric("power_limit_watts", _G, "watts", "Power limit", "Enforced power limit.", 1e-3, "DCGM_FI_DEV_POWER_MGMT_LIMIT"),
    Metric("energy_joules_total", _C, "joules", "Energy", "Energy used since the driver was loaded.",
           1e-3, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1000),
    Metric("temperature_celsius", _G, "celsius", "Temperature", "Temperature of the chip.", 0.1, "DCGM_FI_DEV_GPU_TEMP"),
    Metric("memory_temperature_celsius", _G, "celsius", "Memory temperature", "Temperature of the device memory.",
           0.1, "DCGM_FI_DEV_MEMORY_TEMP"),
    Metric("sm_clock_hertz", _G, "hertz", "SM clock", "Clock of the streaming multiprocessors (CPU: mean core clock).",
           1000, "DCGM_FI_DEV_SM_CLOCK", 1e-6),
    Metric("sm_clock_max_hertz", _G, "hertz", "SM clock, maximum", "Highest clock that the device offers.", 1000),
    Metric("memory_clock_hertz", _G, "hertz", "Memory clock", "Clock of the device memory.",
           1000, "DCGM_FI_DEV_MEM_CLOCK", 1e-6),
    Metric("clock_event_reasons", _S, "bitmask", "Clock event reasons", "Why the clock is below what was asked for (bit mask).",
           1, "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    Metric("pcie_replay_total", _C, "replays", "PCIe replays", "PCIe packets sent again.",
           1, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
    Metric("pcie_link_generation", _S, "generation", "PCIe generation", "Current PCIe link generation.",
           1, "DCGM_FI_DEV_PCIE_LINK_GEN"),
    Metric("pcie_link_width", _S, "lanes", "PCIe width", "Current PCIe link width.", 1, "DCGM_FI_DEV_PCIE_LINK_WIDTH"),
    Metric("ecc_corrected_total", _C, "errors", "ECC corrected", "Corrected memory errors since the driver was loaded.",
           1, "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"),
    Metric("ecc_uncorrected_total", _C, "errors", "ECC uncorrected", "Uncorrected memory errors since the driver was loaded.",
           1, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),
    Metric("fan_speed_ratio", _G, "ratio", "Fan", "Fan speed as a share of its maximum.", 1e-4, "DCGM_FI_DEV_FAN_SPEED", 100),
)  # fmt: skip

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
