"""A simulated GPU that is divided into two MIG instances of half of its memory each. Called by the simulated machine. No Django.

As NVML tells it: power, temperature, clocks and errors are the board's, which has no utilisation of its own then; memory,
profiling metrics and processes are the instances' too.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid5

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceProcess
from telemetry.simulation.boards import Board
from telemetry.simulation.source import Source

_NUMBERS = (1, 2)  # GPU instance ids of two instances of three slices
_HALVED = ("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes")
_ALIKE = (
    "memory_used_ratio", "graphics_engine_active_ratio", "sm_active_ratio", "sm_occupancy_ratio", "tensor_active_ratio",
    "dram_active_ratio", "fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio", "allocation",
)  # fmt: skip
_REFUSED = ("gpu_utilization_ratio", "memory_controller_utilization_ratio", "encoder_utilization_ratio",
            "decoder_utilization_ratio")  # fmt: skip
_PIDS_APART = 100


def divided(whole: Source, board: Board) -> list[Source]:
    """Return the board, which is to be read first, and its instances."""
    told: dict[str, Reading] = {}

    def read_board() -> Mapping[str, Reading]:
        told.clear()
        told.update(whole.read())
        refused = {
            name: AbsentReason.NOT_SUPPORTED for name in _REFUSED if not isinstance(told.get(name), AbsentReason)
        }
        return told | refused

    def read_instance() -> Mapping[str, Reading]:
        halved = {name: _half(told[name]) for name in _HALVED if name in told}
        return halved | {name: told[name] for name in _ALIKE if name in told}

    def processes_of(number: int) -> list[DeviceProcess] | None:
        found = whole.processes()
        return None if found is None else [_part(process, number) for process in found]

    def all_processes() -> list[DeviceProcess] | None:
        found = [processes_of(number) for number in _NUMBERS]
        return None if None in found else [process for part in found for process in part or ()]

    instances = (
        Source(_info(whole.device, board, number), read_instance, partial(processes_of, number)) for number in _NUMBERS
    )
    return [Source(whole.device, read_board, all_processes), *instances]


def _half(reading: Reading) -> Reading:
    return reading if isinstance(reading, AbsentReason) else reading / 2


def _part(process: DeviceProcess, number: int) -> DeviceProcess:
    used = process.memory_bytes
    return replace(
        process, pid=process.pid + _PIDS_APART * number, memory_bytes=None if used is None else used // 2, sm_ratio=None
    )


def _info(device: DeviceInfo, board: Board, number: int) -> DeviceInfo:
    profile = f"3g.{math.ceil(board.memory_bytes / 2 / 2**30)}gb"
    return replace(
        device,
        uuid=f"MIG-{uuid5(UUID(device.uuid.removeprefix('GPU-')), str(number))}",
        index=number,
        model=f"{device.model} MIG {profile}",
        parent=device.uuid,
        profile=profile,
    )
