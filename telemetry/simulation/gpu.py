"""One simulated GPU: its readings follow from its load by a little physics. Called by the simulated hosts. No Django.

Power follows the work, heat follows power with inertia, clocks give way to the power limit, to heat and to the power
brake, and the energy counter is the integral of the power. Readings have the granularity of the vendor's calls.
"""

import math
import random
from dataclasses import dataclass

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import METRICS, AbsentReason
from telemetry.simulation.boards import Board
from telemetry.simulation.load import Load

# Clock event reasons (nvml.h).
GPU_IDLE, SW_POWER_CAP, HW_SLOWDOWN, SW_THERMAL, HW_POWER_BRAKE = 0x1, 0x4, 0x8, 0x20, 0x80

_HEAT_SECONDS = 14.0  # time constant of chip and heat sink
_MEMORY_HEAT_SECONDS = 40.0
_RISE_CELSIUS = 38.0  # above the air, at the power limit
_POWER_EXPONENT = 2.2  # of power over clock, between the square and the cube of voltage and frequency together
_CLOCK_STEP_MEGAHERTZ = 15
_PAGE_BYTES = 2 * 2**20
_MIB = 2**20


@dataclass(slots=True)
class Condition:
    """What is wrong with the GPU now: `clock` limits its clocks (1 = nothing), `cooling` what heat it and its memory shed.

    `is_corrupt`: it computes wrongly.
    """

    clock: float = 1.0
    cooling: float = 1.0
    memory_cooling: float = 1.0
    lanes: int = 16
    is_braked: bool = False
    is_corrupt: bool = False


class _Noise:
    """Normal deviates from a table: a call of `gauss` for each of 20 readings would cost more than the readings."""

    _table = [random.Random(7).gauss(0, 1) for _ in range(4099)]  # noqa: S311

    def __init__(self, seed: str) -> None:
        self._at = random.Random(seed).randrange(4099)  # noqa: S311
        self._stride = 1 + random.Random(seed + "/").randrange(4097)  # noqa: S311

    def __call__(self) -> float:
        self._at = (self._at + self._stride) % 4099
        return self._table[self._at]


class Gpu:
    def __init__(self, board: Board, seed: str) -> None:
        choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self.board = board
        self.condition = Condition()
        self.wear = 1.0  # to what share of them its clocks are limited for good
        self._noise = _Noise(seed)
        self._quality = choose.gauss(1.0, 0.02)  # no two chips need the same power
        self._air = choose.uniform(24, 30)
        self._temperature = self._memory_temperature = self._air + 6
        self._watts = board.idle_watts
        self._clock = 1.0
        self._heat_cut = 0.0
        self._joules = choose.uniform(1e7, 4e9)
        self._power_seconds, self._heat_seconds = choose.uniform(0, 1e4), 0.0
        self._fixed = _fixed_readings(board)
        self.counts: dict[str, Reading] = {name: 0 for name in _COUNTS if name not in self._fixed}

    def advance(self, seconds: float, load: Load) -> dict[str, Reading]:
        """Let `seconds` go by under the load, and return the readings at their end."""
        noise, board = self._noise, self.board
        reasons = self._set_clock(seconds, load)
        watts = board.idle_watts + self._demand(load) * self._clock**_POWER_EXPONENT
        watts = max(board.idle_watts * 0.9, watts * (1 + 0.012 * noise()))
        joules = (self._watts + watts) / 2 * seconds
        self._joules += joules
        average = joules / seconds if seconds else watts
        self._watts = watts
        self._warm(seconds, average)
        megahertz = self._megahertz(load)
        return (
            self._fixed
            | self.counts
            | self._activity(load)
            | {
                "power_draw_watts": round(average, 3),
                "power_draw_instant_watts": round(watts * (1 + 0.004 * noise()), 3),
                "energy_joules_total": round(self._joules, 3),
                "temperature_celsius": round(self._temperature),
                "memory_temperature_celsius": round(self._memory_temperature),
                "sm_clock_hertz": megahertz * 1_000_000,
                "clock_event_reasons": reasons,
                "allocation": load.allocation,
                "pcie_link_width": self.condition.lanes,
                "power_throttle_seconds_total": round(self._power_seconds, 6),
                "thermal_throttle_seconds_total": round(self._heat_seconds, 6),
            }
        )

    @property
    def watts(self) -> float:
        return self._watts

    @property
    def lengthening(self) -> float:
        """By what its work takes longer than a sound one's: 1 is nothing. What the power cap takes, it takes of all."""
        return 1 / min(self.wear, self.condition.clock)

    def reload_driver(self) -> None:
        """The counters begin anew, and what was wrong is forgotten."""
        self._joules = self._power_seconds = self._heat_seconds = 0.0
        self.counts = dict.fromkeys(self.counts, 0)

    def _demand(self, load: Load) -> float:
        """Return the watts above idle that the load would take at full clocks: a dense training loop hits the limit."""
        span = self.board.limit_watts - self.board.idle_watts
        return span * self._quality * (0.25 * load.sm + 1.0 * load.tensor + 0.32 * load.dram + 0.12 * load.nvlink)

    def _set_clock(self, seconds: float, load: Load) -> int:
        """Find the clock that limit, heat, brake and wear allow; return the reasons."""
        board, reasons, clock = self.board, 0, min(self.wear, self.condition.clock)
        demand, span = self._demand(load), board.limit_watts - board.idle_watts
        if load.sm < 0.01:
            reasons |= GPU_IDLE
        if demand * clock**_POWER_EXPONENT > span:
            clock = (span / demand) ** (1 / _POWER_EXPONENT)
            reasons |= SW_POWER_CAP
            self._power_seconds += seconds
        if self._temperature > board.slowdown_celsius:
            self._heat_cut = min(0.6, self._heat_cut + 0.03 * seconds)
        elif self._temperature < board.slowdown_celsius - 2:
            self._heat_cut = max(0.0, self._heat_cut - 0.01 * seconds)
        if self._heat_cut:
            clock *= 1 - self._heat_cut
            reasons |= SW_THERMAL
            self._heat_seconds += seconds
        if self.condition.is_braked:
            clock *= 0.5
            reasons |= HW_POWER_BRAKE | HW_SLOWDOWN
        self._clock = clock
        return reasons

    def _warm(self, seconds: float, watts: float) -> None:
        rise = _RISE_CELSIUS * watts / self.board.limit_watts / self.condition.cooling
        self._temperature += (self._air + rise - self._temperature) * -math.expm1(-seconds / _HEAT_SECONDS)
        towards = self._temperature + 7 / self.condition.memory_cooling - self._memory_temperature
        self._memory_temperature += towards * -math.expm1(-seconds / _MEMORY_HEAT_SECONDS)

    def _megahertz(self, load: Load) -> int:
        if load.sm < 0.01:
            return self.board.idle_clock_megahertz
        steps = self.board.sm_clock_megahertz * self._clock // _CLOCK_STEP_MEGAHERTZ
        return max(self.board.idle_clock_megahertz, int(steps) * _CLOCK_STEP_MEGAHERTZ)

    def _activity(self, load: Load) -> dict[str, Reading]:
        noise, board = self._noise, self.board
        used = int(load.memory * (board.memory_bytes - _reserved(board)) // _PAGE_BYTES) * _PAGE_BYTES
        free = board.memory_bytes - _reserved(board) - used
        busy = 1.0 if load.sm > 0.9 else round(min(1.0, load.sm * (1 + 0.02 * noise())), 2)
        sent = load.pcie_out * board.pcie_bytes_per_second * (1 + 0.08 * noise())
        received = load.pcie_in * board.pcie_bytes_per_second * (1 + 0.08 * noise())
        readings: dict[str, Reading] = {
            "gpu_utilization_ratio": busy,
            "memory_controller_utilization_ratio": round(_share(load.dram * (1 + 0.02 * noise())), 2),
            "memory_used_bytes": used,
            "memory_free_bytes": free,
            "memory_used_ratio": used / (used + free),
            "pcie_tx_bytes_per_second": max(0.0, sent) // 1024 * 1024,
            "pcie_rx_bytes_per_second": max(0.0, received) // 1024 * 1024,
        }
        if board.n_nvlinks:
            readings |= self._links(load)
        if board.has_gpm:
            readings |= self._pipes(load)
        return readings

    def _links(self, load: Load) -> dict[str, Reading]:
        speed = load.nvlink * self.board.nvlink_bytes_per_second * self._clock
        sent = max(0.0, speed * (1 + 0.03 * self._noise())) // 1024 * 1024
        received = max(0.0, speed * (1 + 0.03 * self._noise())) // 1024 * 1024
        return {
            "nvlink_tx_bytes_per_second": sent,
            "nvlink_rx_bytes_per_second": received,
            "nvlink_bytes_per_second": sent + received,
        }

    def _pipes(self, load: Load) -> dict[str, Reading]:
        noise = self._noise
        return {
            "graphics_engine_active_ratio": _share(load.sm * (1 + 0.002 * noise())),
            "sm_active_ratio": _share(load.sm * (0.93 + 0.008 * noise())),
            "sm_occupancy_ratio": _share(load.sm * (0.21 + 0.004 * noise())),
            "tensor_active_ratio": _share(load.tensor * (1 + 0.015 * noise())),
            "dram_active_ratio": _share(load.dram * (1 + 0.015 * noise())),
            "fp64_active_ratio": 0.0,
            "fp32_active_ratio": _share(load.fp32 * (1 + 0.02 * noise())),
            "fp16_active_ratio": _share(load.fp16 * (1 + 0.02 * noise())),
        }


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _reserved(board: Board) -> int:
    return int(board.memory_bytes * 0.0065) // _MIB * _MIB


_COUNTS = (
    "pcie_replay_total", "nvlink_crc_flit_errors_total", "nvlink_crc_data_errors_total", "nvlink_replay_errors_total",
    "nvlink_recovery_errors_total", "nvlink_errors_total", "ecc_corrected_total", "ecc_uncorrected_total",
    "remapped_rows_corrected_total", "remapped_rows_uncorrected_total", "row_remap_pending", "row_remap_failure",
    "xid_last", "xid_errors_total", "recovery_action",
)  # fmt: skip
_GPM = (
    "graphics_engine_active_ratio", "sm_active_ratio", "sm_occupancy_ratio", "tensor_active_ratio", "dram_active_ratio",
    "fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio",
)  # fmt: skip
_NVLINK = (
    "nvlink_tx_bytes_per_second", "nvlink_rx_bytes_per_second", "nvlink_bytes_per_second",
    *(name for name in _COUNTS if name.startswith("nvlink")),
)  # fmt: skip
# Guests' licences and the counters of NVLink 5 are not simulated.
_LEFT_OUT = ("vgpu_licensed", *(m.name for m in METRICS if m.source.startswith("NVML_FI_DEV_NVLINK_COUNT_")))


def _fixed_readings(board: Board) -> dict[str, Reading]:
    """Return what stays as it is, absences included."""
    lacking = [
        *(() if board.has_gpm else _GPM),
        *(() if board.n_nvlinks else _NVLINK),
        *(() if board.has_fan else ("fan_speed_ratio",)),
        *_LEFT_OUT,
    ]
    return {
        "encoder_utilization_ratio": 0.0,
        "decoder_utilization_ratio": 0.0,
        "memory_total_bytes": board.memory_bytes,
        "memory_reserved_bytes": _reserved(board),
        "power_limit_watts": board.limit_watts,
        "sm_clock_max_hertz": board.sm_clock_megahertz * 1_000_000,
        "memory_clock_hertz": board.memory_clock_megahertz * 1_000_000,
        "pcie_link_generation": board.pcie_generation,
        "pcie_link_generation_max": board.pcie_generation,
        "pcie_link_width": 16,
        "pcie_link_width_max": 16,
        **({"fan_speed_ratio": 0.45} if board.has_fan else {}),
        **dict.fromkeys(lacking, AbsentReason.NOT_SUPPORTED),
    }
