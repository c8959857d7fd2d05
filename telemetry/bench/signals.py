"""Made-up readings of GPUs that train, for both sides of the benches: the same numbers go into the store and into its peers.

25 metrics a GPU, in the vendor's steps. Fourteen move at every second, eleven hardly ever: about what an H100 in a training
cluster tells. Nothing repeats: all comes from one generator (PCG64), drawn anew each second, and a seed gives the same again.

  loads        every GPU works, pauses (for data, a checkpoint) and idles; the times between are exponential
  noisy        utilisation and memory controller in whole per cent; SM, tensor and memory activity in 0.01 %; power in mW, which
               wanders about what the load takes; energy in mJ, its integral; PCIe and NVLink in KiB/s, 5 to 10 % of noise
  slow         both temperatures in whole degrees, with inertia; SM clock in steps of 15 MHz, down at the power cap
  seldom       memory used and free (2 MiB pages, at a new phase), clock event reasons, seconds at the power cap (while there)
  never        encoder, power limit, memory clock, thermal throttling, PCIe replays, ECC errors of both kinds, all but some
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.catalog import BY_NAME
from telemetry.decoding.matrix import Steps, in_base_units
from telemetry.message.wire import Batch, DeviceInfo, DeviceKind

METRICS: Final = (
    "gpu_utilization_ratio", "memory_controller_utilization_ratio", "encoder_utilization_ratio",
    "memory_used_bytes", "memory_free_bytes", "power_draw_watts", "power_limit_watts", "energy_joules_total",
    "temperature_celsius", "memory_temperature_celsius", "sm_clock_hertz", "memory_clock_hertz", "clock_event_reasons",
    "power_throttle_seconds_total", "thermal_throttle_seconds_total",
    "pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second", "pcie_replay_total",
    "nvlink_tx_bytes_per_second", "nvlink_rx_bytes_per_second", "ecc_corrected_total", "ecc_uncorrected_total",
    "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio",
)  # fmt: skip
GPUS_PER_HOST = 8
_RESOLUTIONS = np.array([BY_NAME[name].resolution for name in METRICS])
_IDLE, _WORKING, _PAUSING = 0, 1, 2
_STAY_SECONDS = np.array([900.0, 240.0, 6.0])  # mean stay in a load
_SM, _TENSOR = np.array([0.0, 0.94, 0.12]), np.array([0.0, 0.58, 0.03])
_DRAM, _LINK = np.array([0.0, 0.46, 0.08]), np.array([0.0, 0.33, 0.02])
_IDLE_WATTS, _LIMIT_WATTS, _MEMORY_BYTES, _PAGE_BYTES = 72.0, 700.0, 80 * 2**30, 2 * 2**20
_SM_MEGAHERTZ, _IDLE_MEGAHERTZ, _STEP_MEGAHERTZ, _MEMORY_MEGAHERTZ = 1980, 345, 15, 2619
_POWER_CAP, _GPU_IDLE = 0x4, 0x1  # nvml.h

Floats = NDArray[np.float64]


class Signals:
    """`n_gpus` devices that go on from one call to the next."""

    def __init__(self, n_gpus: int, seed: int) -> None:
        self._n, self._random = n_gpus, np.random.default_rng(seed)
        draw = self._random
        self._load = draw.choice([_IDLE, _WORKING], n_gpus, p=[0.2, 0.8])
        self._next_change = draw.exponential(_STAY_SECONDS[self._load])
        self._pages = draw.integers(20_000, 36_000, n_gpus)
        self._quality = draw.normal(1.0, 0.02, n_gpus)
        self._air = draw.uniform(24, 30, n_gpus)
        self._celsius, self._memory_celsius = self._air + 8, self._air + 12
        self._wander = np.zeros(n_gpus)
        self._joules = draw.uniform(1e7, 4e9, n_gpus)
        self._cap_seconds = draw.uniform(0, 1e4, n_gpus)
        self._replays, self._corrected = draw.poisson(0.3, n_gpus), draw.poisson(0.05, n_gpus)

    def advance(self, n_ticks: int, seconds: float = 1.0) -> Steps:
        """Return the next readings, `(25, n_gpus, n_ticks)` in steps of each metric's resolution."""
        found = np.empty((n_ticks, len(METRICS), self._n))
        for tick in range(n_ticks):
            found[tick] = self._tick(seconds)
        steps: Steps = np.rint(found.transpose(1, 2, 0) / _RESOLUTIONS[:, None, None]).astype(np.int64)
        return steps

    def _tick(self, seconds: float) -> list[Floats]:
        """Return one reading of each metric by GPU, in base units."""
        self._change_loads(seconds)
        noise = self._random.standard_normal((10, self._n))
        load = self._load
        sm, tensor = _shares(_SM[load], 0.008, noise[0]), _shares(_TENSOR[load], 0.015, noise[1])
        dram, link = _shares(_DRAM[load], 0.015, noise[2]), _LINK[load]
        watts, is_capped = self._watts(sm, tensor, dram, noise[3], noise[4])
        self._joules += watts * seconds
        self._cap_seconds += is_capped * seconds
        self._warm(watts, seconds)
        busy = np.minimum(1.0, np.where(sm > 0.5, 0.985 + 0.012 * noise[5], sm))
        used = self._pages * float(_PAGE_BYTES)
        slower = is_capped * np.ceil(2 + 2 * np.abs(noise[4])) * _STEP_MEGAHERTZ
        clock = np.where(load == _IDLE, _IDLE_MEGAHERTZ, _SM_MEGAHERTZ - slower)
        pcie = 64e9 * (0.001 + 0.03 * link)
        nvlink = 450e9 * link
        zero = np.zeros(self._n)
        return [
            np.rint(100 * busy) / 100, np.rint(100 * np.minimum(1.0, 0.9 * dram)) / 100, zero,
            used, _MEMORY_BYTES - used, watts, zero + _LIMIT_WATTS, self._joules.copy(),
            np.rint(self._celsius), np.rint(self._memory_celsius), clock * 1e6, zero + _MEMORY_MEGAHERTZ * 1e6,
            np.where(is_capped, _POWER_CAP, 0.0) + np.where(load == _IDLE, _GPU_IDLE, 0.0),
            self._cap_seconds.copy(), zero,
            np.maximum(0, pcie * (1 + 0.1 * noise[6])), np.maximum(0, 1.7 * pcie * (1 + 0.1 * noise[7])), self._replays,
            np.maximum(0, nvlink * (1 + 0.05 * noise[8])), np.maximum(0, nvlink * (1 + 0.05 * noise[9])),
            self._corrected, zero, sm, tensor, dram,
        ]  # fmt: skip

    def _change_loads(self, seconds: float) -> None:
        self._next_change -= seconds
        changing = np.flatnonzero(self._next_change <= 0)
        if not changing.size:
            return
        draw, before = self._random, self._load[changing]
        from_work = np.where(draw.random(changing.size) < 0.9, _PAUSING, _IDLE)
        self._load[changing] = np.where(before == _WORKING, from_work, _WORKING)
        self._next_change[changing] = draw.exponential(_STAY_SECONDS[self._load[changing]])
        begins = changing[before == _IDLE]
        self._pages[begins] = draw.integers(20_000, 36_000, begins.size)
        self._replays[begins] += draw.random(begins.size) < 0.02
        self._corrected[begins] += draw.random(begins.size) < 0.01

    def _watts(
        self, sm: Floats, tensor: Floats, dram: Floats, step: Floats, jitter: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the power, and which GPUs are held down by the cap. It wanders: an AR(1) of 30 s about the demand."""
        self._wander += 0.25 * step - self._wander / 30
        span = _LIMIT_WATTS - _IDLE_WATTS
        demand = _IDLE_WATTS + span * self._quality * (0.25 * sm + 1.0 * tensor + 0.32 * dram)
        demand *= 1 + 0.02 * self._wander
        is_capped = demand > _LIMIT_WATTS
        watts = np.minimum(demand, _LIMIT_WATTS) * (1 + 0.008 * jitter)
        return np.maximum(0.9 * _IDLE_WATTS, watts), is_capped

    def _warm(self, watts: Floats, seconds: float) -> None:
        goal = self._air + 38 * watts / _LIMIT_WATTS
        self._celsius += (goal - self._celsius) * -np.expm1(-seconds / 14)
        self._memory_celsius += (self._celsius + 7 - self._memory_celsius) * -np.expm1(-seconds / 40)


def _shares(level: Floats, spread: float, noise: Floats) -> Floats:
    return np.clip(level * (1 + spread * noise), 0.0, 1.0)


def in_units(steps: Steps) -> Floats:
    """Return readings of `advance` in base units, `(25, n_gpus, n_ticks)`."""
    return np.array([in_base_units(of, BY_NAME[name].resolution) for name, of in zip(METRICS, steps, strict=True)])


def devices(host: str, n_gpus: int = GPUS_PER_HOST) -> list[DeviceInfo]:
    return [
        DeviceInfo(
            f"GPU-{host}-{index}", DeviceKind.NVIDIA, index, "NVIDIA H100 80GB HBM3",
            pci_bus_id=f"00000000:{0x11 + 0x10 * index:02X}:00.0", driver_version="580.105.08",
        )
        for index in range(n_gpus)
    ]  # fmt: skip


def batch(
    host: str, epoch: str, sequence: int, times_ms: Sequence[int], values: Floats, *, metrics: Sequence[str] = METRICS
) -> Batch:
    """Return one host's batch of these readings, `(n_metrics, n_gpus, n_ticks)` in base units."""
    every = (times_ms[-1] - times_ms[0]) / 1000 / (len(times_ms) - 1) if len(times_ms) > 1 else 1.0
    return Batch(
        host=host, epoch=epoch, sequence=sequence, segment=0, sent_ms=times_ms[-1], times_ms=times_ms,
        devices=devices(host, values.shape[1]), columns=dict(zip(metrics, values.tolist(), strict=True)),
        software={"driver": "580.105.08"} if sequence == 0 else None, sample_seconds=every, machine=epoch,
    )  # fmt: skip


def batches(
    host: str, epoch: str, signals: Signals, start_ms: int, n_batches: int, n_ticks: int, *, seconds: float = 1.0
) -> Iterator[tuple[Batch, Floats]]:
    """Yield a host's batches of `n_ticks` from `start_ms` on, each with its readings in base units."""
    step_ms = round(seconds * 1000)
    for sequence in range(n_batches):
        first_ms = start_ms + sequence * n_ticks * step_ms
        times_ms = list(range(first_ms, first_ms + n_ticks * step_ms, step_ms))
        values = in_units(signals.advance(n_ticks, seconds))
        yield batch(host, epoch, sequence, times_ms, values), values
