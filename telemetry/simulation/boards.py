"""The boards that can be simulated: what does not change about a model. Called by the simulated GPUs. No Django.

Memory, power limit and link speeds are from the vendor's datasheets; idle power and clocks are what such boards show in
public logs of `nvidia-smi`. Good enough to look right, no source for anything else.
"""

import math
from dataclasses import dataclass

_GB, _MIB = 1e9, 2**20


@dataclass(frozen=True, slots=True)
class Board:
    """`name` is what the driver calls it. Link speeds are bytes per second in one direction."""

    name: str
    memory_bytes: int
    limit_watts: float
    idle_watts: float
    sm_clock_megahertz: int
    idle_clock_megahertz: int
    memory_clock_megahertz: int
    n_nvlinks: int
    nvlink_bytes_per_second: float
    pcie_generation: int
    has_gpm: bool  # Hopper and newer
    has_fan: bool = False
    slowdown_celsius: float = 87.0

    @property
    def is_divisible(self) -> bool:
        """Whether it can have MIG instances: of these boards those with NVLink."""
        return self.n_nvlinks > 0

    @property
    def pcie_bytes_per_second(self) -> float:
        return 16 * 0.985e9 * math.pow(2, self.pcie_generation - 3)


BOARDS = {
    "h100": Board(
        "NVIDIA H100 80GB HBM3", 81_559 * _MIB, 700, 72, 1980, 345, 2619, 18, 450 * _GB, 5, has_gpm=True
    ),
    "h200": Board("NVIDIA H200", 143_771 * _MIB, 700, 78, 1980, 345, 3201, 18, 450 * _GB, 5, has_gpm=True),
    "b200": Board("NVIDIA B200", 183_359 * _MIB, 1000, 140, 1965, 120, 3996, 18, 900 * _GB, 5, has_gpm=True),
    "a100": Board(
        "NVIDIA A100-SXM4-80GB", 81_920 * _MIB, 400, 62, 1410, 210, 1593, 12, 300 * _GB, 4, has_gpm=False
    ),
    "l40s": Board(
        "NVIDIA L40S", 46_068 * _MIB, 350, 36, 2520, 210, 9001, 0, 0, 4, has_gpm=False, slowdown_celsius=89.0
    ),
    "l4": Board("NVIDIA L4", 23_034 * _MIB, 72, 16, 2040, 210, 6251, 0, 0, 4, has_gpm=False, slowdown_celsius=85.0),
    "rtx4090": Board(
        "NVIDIA GeForce RTX 4090", 24_564 * _MIB, 450, 22, 2520, 210, 10_501, 0, 0, 4,
        has_gpm=False, has_fan=True, slowdown_celsius=84.0,
    ),
}  # fmt: skip
