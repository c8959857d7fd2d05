"""The least that a program over pynvml does: 17 calls a device each second, their answers thrown away.

Run by the bench as a process of its own: `python -m telemetry.bench.bare_loop`. No Django.
"""

import time
from collections.abc import Callable
from typing import Any

import pynvml

CALLS: tuple[Callable[[Any], object], ...] = (
    pynvml.nvmlDeviceGetUtilizationRates,
    pynvml.nvmlDeviceGetMemoryInfo,
    pynvml.nvmlDeviceGetPowerUsage,
    pynvml.nvmlDeviceGetEnforcedPowerLimit,
    pynvml.nvmlDeviceGetTotalEnergyConsumption,
    lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
    lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
    lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
    lambda handle: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
    pynvml.nvmlDeviceGetCurrentClocksEventReasons,
    pynvml.nvmlDeviceGetEncoderUtilization,
    pynvml.nvmlDeviceGetDecoderUtilization,
    pynvml.nvmlDeviceGetPcieReplayCounter,
    pynvml.nvmlDeviceGetCurrPcieLinkGeneration,
    pynvml.nvmlDeviceGetCurrPcieLinkWidth,
    pynvml.nvmlDeviceGetMaxPcieLinkGeneration,
    pynvml.nvmlDeviceGetFanSpeed,
)


def run() -> None:
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    due = time.monotonic()
    while True:
        for handle in handles:
            for call in CALLS:
                try:
                    call(handle)
                except pynvml.NVMLError:  # a board without fans
                    continue
        due += 1.0
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    run()
