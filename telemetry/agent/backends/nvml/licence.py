"""Whether the vGPU software of a guest is licensed. Read by board.py each tick, asked of the driver once a minute.

Imports no other reader's state.
"""

import ctypes
from functools import partial
from typing import Any

import pynvml

from telemetry.agent.backends.nvml.calls import function
from telemetry.agent.backends.nvml.errors import is_refused, reason_of
from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason

LICENSED = "vgpu_licensed"
_SLOW_SECONDS = 60.0  # a guest takes its licence soon after its start, and gives it back at its end


class Licence:
    """A board's licence: 1 where any of its features has one, 0 where none has; a board that needs none is not asked again."""

    def __init__(self, board: Any) -> None:
        self._features = pynvml.c_nvmlGridLicensableFeatures_v4_t()
        symbol = "nvmlDeviceGetGridLicensableFeatures_v4"
        self._ask = partial(function(symbol), board, ctypes.byref(self._features))
        self._is_offered = True
        self._due = float("-inf")
        self._state: Reading = AbsentReason.NOT_SUPPORTED

    def read(self, readings: dict[str, Reading], now: float) -> None:
        """Put the state into `readings`, where the board has one. Raises DeviceGoneError and DriverAwayError."""
        if self._is_offered and now >= self._due:
            self._state = self._look()
            self._due = now + _SLOW_SECONDS
        if self._is_offered:
            readings[LICENSED] = self._state

    def _look(self) -> Reading:
        code = self._ask()
        if code != pynvml.NVML_SUCCESS:
            self._is_offered = not is_refused(code)
            return reason_of(code)
        self._is_offered = bool(self._features.isGridLicenseSupported)
        known = self._features.gridLicensableFeatures
        n = self._features.licensableFeaturesCount
        if not 0 < n <= len(known):
            return AbsentReason.UNKNOWN
        return int(any(feature.featureState for feature in known[:n]))
