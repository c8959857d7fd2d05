"""What the driver's return codes mean for a reading, a device and the whole driver. Imports no device code.

Source: nvmlReturn_t in nvml.h.
"""

import pynvml

from telemetry.catalog import AbsentReason

_REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: AbsentReason.NOT_SUPPORTED,  # the driver is older than the call
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_DEPRECATED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION: AbsentReason.NO_PERMISSION,
    pynvml.NVML_ERROR_OPERATING_SYSTEM: AbsentReason.NO_PERMISSION,  # a control group keeps the device away
    pynvml.NVML_ERROR_TIMEOUT: AbsentReason.TIMEOUT,
}

# Codes that speak of the device, not of the call: nothing that the device still says counts.
_GONE = {
    pynvml.NVML_ERROR_GPU_IS_LOST: AbsentReason.GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: AbsentReason.RESET_REQUIRED,
}

_DRIVER_AWAY = frozenset({pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})

# What a handle answers that no longer stands for a device: an instance of MIG that was destroyed, a board that was reset.
STALE_HANDLE = frozenset({pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NOT_FOUND})

_ADVICE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 not found: no NVIDIA driver is installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: modprobe nvidia, or reboot",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "NVIDIA library and kernel driver differ in version: restart the agent, or reboot"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to open the NVIDIA driver: see /dev/nvidiactl",
}


class DeviceGoneError(Exception):
    """The driver has no working device behind the handle or the UUID: nothing that it still says of it counts."""

    def __init__(self, reason: AbsentReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class DriverAwayError(Exception):
    """The driver was unloaded under the agent's feet: it must be opened again."""


def reason_of(code: int) -> AbsentReason:
    """Return why a reading is absent.

    Raises DeviceGoneError where the code speaks of the whole device, DriverAwayError where it speaks of the driver.
    """
    if code in _GONE:
        raise DeviceGoneError(_GONE[code])
    if code in _DRIVER_AWAY:
        raise DriverAwayError
    return _REASONS.get(code, AbsentReason.UNKNOWN)


def is_refused(code: int) -> bool:
    """Return whether the device or its driver does not know the call at all, so that it need not be asked again."""
    return _REASONS.get(code) is AbsentReason.NOT_SUPPORTED


def is_driver_away(code: int) -> bool:
    """Return whether the driver was unloaded."""
    return code in _DRIVER_AWAY


def advice(error: pynvml.NVMLError) -> str:
    """Return what is wrong and what to do where the driver does not start."""
    return _ADVICE.get(error.value, f"the NVIDIA driver does not start: {error}")
