"""NVIDIA devices through the official bindings: what to ask the driver, and its answers in base units.

Called by the sampler, on a thread of its own, since a wedged driver call does not return. The only module
that imports pynvml; importing it needs no driver. Imports no Django and no torch.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pynvml

from telemetry import catalog
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.catalog import AbsentReason
from telemetry.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, Topology

_log = logging.getLogger(__name__)

_Ask = Callable[[Any], Any]  # a driver call: handle → answer
_Take = Callable[[Any], float]  # one reading out of the answer, in base units


def _as_is(value: float) -> float:
    return value


def _from_percent(percent: float) -> float:
    return percent / 100


def _from_milli(thousandths: float) -> float:
    return thousandths / 1000


def _from_mega(millions: float) -> float:
    return millions * 1_000_000


_memory_v2 = partial(pynvml.nvmlDeviceGetMemoryInfo, version=pynvml.nvmlMemory_v2)
_temperature = partial(pynvml.nvmlDeviceGetTemperature, sensor=pynvml.NVML_TEMPERATURE_GPU)
_sm_clock = partial(pynvml.nvmlDeviceGetClockInfo, type=pynvml.NVML_CLOCK_SM)
_sm_clock_max = partial(pynvml.nvmlDeviceGetMaxClockInfo, type=pynvml.NVML_CLOCK_SM)
_memory_clock = partial(pynvml.nvmlDeviceGetClockInfo, type=pynvml.NVML_CLOCK_MEM)

_MEMORY: dict[str, _Take] = {
    "memory_total_bytes": lambda memory: memory.total,
    "memory_used_bytes": lambda memory: memory.used,
    "memory_free_bytes": lambda memory: memory.free,
}

# One line a reading; lines of the same call share its answer. Vendor units (%, mW, mJ, MHz) end here.
_CALLS: dict[_Ask, dict[str, _Take]] = {
    pynvml.nvmlDeviceGetUtilizationRates: {
        "gpu_utilization_ratio": lambda rates: _from_percent(rates.gpu),
        "memory_controller_utilization_ratio": lambda rates: _from_percent(rates.memory),
    },
    pynvml.nvmlDeviceGetEncoderUtilization: {"encoder_utilization_ratio": lambda pair: _from_percent(pair[0])},
    pynvml.nvmlDeviceGetDecoderUtilization: {"decoder_utilization_ratio": lambda pair: _from_percent(pair[0])},
    _memory_v2: _MEMORY | {"memory_reserved_bytes": lambda memory: memory.reserved},
    pynvml.nvmlDeviceGetPowerUsage: {"power_draw_watts": _from_milli},
    pynvml.nvmlDeviceGetEnforcedPowerLimit: {"power_limit_watts": _from_milli},
    pynvml.nvmlDeviceGetTotalEnergyConsumption: {"energy_joules_total": _from_milli},
    _temperature: {"temperature_celsius": _as_is},
    _sm_clock: {"sm_clock_hertz": _from_mega},
    _sm_clock_max: {"sm_clock_max_hertz": _from_mega},
    _memory_clock: {"memory_clock_hertz": _from_mega},
    pynvml.nvmlDeviceGetCurrentClocksEventReasons: {"clock_event_reasons": _as_is},
    pynvml.nvmlDeviceGetPcieReplayCounter: {"pcie_replay_total": _as_is},
    pynvml.nvmlDeviceGetCurrPcieLinkGeneration: {"pcie_link_generation": _as_is},
    pynvml.nvmlDeviceGetCurrPcieLinkWidth: {"pcie_link_width": _as_is},
    pynvml.nvmlDeviceGetFanSpeed: {"fan_speed_ratio": _from_percent},
}

# Readings that the driver offers as field values: one call for all of them, with a return code each.
_FIELDS: dict[int, str] = {
    pynvml.NVML_FI_DEV_MEMORY_TEMP: "memory_temperature_celsius",
    pynvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL: "ecc_corrected_total",
    pynvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL: "ecc_uncorrected_total",
}

# What drivers offer that lack the newer call (memory: before driver 510).
_OLDER: dict[_Ask, tuple[_Ask, dict[str, _Take]]] = {
    _memory_v2: (pynvml.nvmlDeviceGetMemoryInfo, _MEMORY),
    pynvml.nvmlDeviceGetCurrentClocksEventReasons: (
        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        {"clock_event_reasons": _as_is},
    ),
}

_METRICS = (*(name for takes in _CALLS.values() for name in takes), *_FIELDS.values())

# Highest believable value by unit: sentinels of 32 and 64 bits lie above; what lies below fits the wire.
_CEILINGS = {"ratio": 1, "watts": 1e5, "celsius": 250, "hertz": 1e11, "bytes": 2**50, "joules": 2**53 / 1000}
_COUNT_CEILING = 2**32 - 2
_RANGES: dict[str, tuple[float, float]] = {
    **{name: (0, _CEILINGS.get(catalog.BY_NAME[name].unit, _COUNT_CEILING)) for name in _METRICS},
    "fan_speed_ratio": (0, 2),  # nvml.h: "may exceed 100% in certain cases"
    "memory_temperature_celsius": (1, 250),  # boards without the sensor say 0 (dcgm-exporter on a T4)
}

_FIELD_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

_REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: AbsentReason.NOT_SUPPORTED,  # the driver is older than the call
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_DEPRECATED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: AbsentReason.NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION: AbsentReason.NO_PERMISSION,
    pynvml.NVML_ERROR_OPERATING_SYSTEM: AbsentReason.NO_PERMISSION,  # a control group keeps the device away
    pynvml.NVML_ERROR_GPU_IS_LOST: AbsentReason.GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: AbsentReason.RESET_REQUIRED,
    pynvml.NVML_ERROR_TIMEOUT: AbsentReason.TIMEOUT,
}

_ADVICE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 not found: no NVIDIA driver is installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: modprobe nvidia, or reboot",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA library and kernel driver differ in version: reboot",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to open the NVIDIA driver: see /dev/nvidiactl",
}


# A device that takes longer is left alone for ten times as long: all devices share one thread and one tick.
_PATIENCE_SECONDS = 0.25
_PAUSE_FACTOR = 10


class _DeviceGoneError(Exception):
    """The driver has no device behind the handle or the UUID: nothing that it still says of it counts."""

    def __init__(self, reason: AbsentReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _reason(code: int) -> AbsentReason:
    """Return why a reading is absent. Raises _DeviceGoneError where the code speaks of the whole device."""
    reason = _REASONS.get(code, AbsentReason.UNKNOWN)
    if reason is AbsentReason.GPU_IS_LOST:
        raise _DeviceGoneError(reason)
    return reason


def _believed(metric: str, value: float) -> Reading:
    low, high = _RANGES[metric]
    return value if low <= value <= high else AbsentReason.UNKNOWN  # NaN compares false


def _ask(handle: Any, ask: _Ask, takes: Mapping[str, _Take]) -> dict[str, Reading]:
    try:
        answer = ask(handle)
    except pynvml.NVMLError as error:
        return dict.fromkeys(takes, _reason(error.value))
    return {metric: _believed(metric, take(answer)) for metric, take in takes.items()}


def _ask_fields(handle: Any, fields: Mapping[int, str]) -> dict[str, Reading]:
    try:
        # Pairs of (field, scope): the bindings find out that a bare number is no pair by an exception.
        answers = pynvml.nvmlDeviceGetFieldValues(handle, [(field, 0) for field in fields])
    except pynvml.NVMLError as error:
        return dict.fromkeys(fields.values(), _reason(error.value))
    return {metric: _field(metric, answer) for metric, answer in zip(fields.values(), answers, strict=True)}


def _field(metric: str, answer: Any) -> Reading:
    if answer.nvmlReturn != pynvml.NVML_SUCCESS:
        return _reason(answer.nvmlReturn)
    member = _FIELD_MEMBERS.get(answer.valueType)
    return AbsentReason.UNKNOWN if member is None else _believed(metric, getattr(answer.value, member))


class _Device:
    """One device: its handle while it has one, and the calls that it offers."""

    def __init__(self, info: DeviceInfo, handle: Any, clock: Callable[[], float]) -> None:
        self.device = info
        self._clock = clock
        self._paused_until = 0.0
        self._handle = handle
        self._probed = False
        self._calls: dict[_Ask, dict[str, _Take]] = {}
        self._fields: dict[int, str] = {}

    @property
    def memory_call_is_old(self) -> bool:
        return pynvml.nvmlDeviceGetMemoryInfo in self._calls

    def processes(self) -> list[DeviceProcess] | None:
        return None

    def read(self) -> Mapping[str, Reading]:
        started = self._clock()
        if started < self._paused_until:
            return dict.fromkeys(_METRICS, AbsentReason.TIMEOUT)
        try:
            return self._read()
        except _DeviceGoneError as gone:
            self.forget_handle()
            return dict.fromkeys(_METRICS, gone.reason)
        finally:
            elapsed = self._clock() - started
            if elapsed > _PATIENCE_SECONDS:
                self._paused_until = started + (1 + _PAUSE_FACTOR) * elapsed

    def forget_handle(self) -> None:
        """Ask for the device by its UUID at the next read: a stale handle can crash in the driver."""
        self._handle, self._probed = None, False

    def _read(self) -> dict[str, Reading]:
        if self._handle is None:
            self._handle = _find(self.device.uuid)
        if not self._probed:
            self._probe()
        readings: dict[str, Reading] = dict.fromkeys(_METRICS, AbsentReason.NOT_SUPPORTED)
        for ask, takes in self._calls.items():
            readings.update(_ask(self._handle, ask, takes))
        if self._fields:
            readings.update(_ask_fields(self._handle, self._fields))
        return readings

    def _probe(self) -> None:
        """Find once what the device offers, so that a call that it refuses is not repeated each tick."""
        self._calls = {}
        for newest, takes in _CALLS.items():
            for ask, offered in filter(None, ((newest, takes), _OLDER.get(newest))):
                if AbsentReason.NOT_SUPPORTED not in _ask(self._handle, ask, offered).values():
                    self._calls[ask] = offered
                    break
        answers = _ask_fields(self._handle, _FIELDS)
        self._fields = {f: m for f, m in _FIELDS.items() if answers[m] is not AbsentReason.NOT_SUPPORTED}
        self._probed = True


def _find(uuid: str) -> Any:
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        # A device that the driver knew and no longer lists fell off the bus as well.
        gone = error.value == pynvml.NVML_ERROR_NOT_FOUND
        raise _DeviceGoneError(AbsentReason.GPU_IS_LOST if gone else _reason(error.value)) from error


class NvmlBackend:
    """Reads every NVIDIA device that the driver lists; one that was known stays known, also across `open`."""

    name = "nvml"
    releasable = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._devices: dict[str, _Device] = {}
        self._software: dict[str, str] = {}
        self._is_open = False

    def open(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise BackendUnavailable(_ADVICE.get(error.value, f"the NVIDIA driver does not start: {error}")) from error
        self._is_open = True
        try:
            self._software = _versions()
            found = _list_devices(self._software["driver"], self._clock)
        except pynvml.NVMLError as error:
            self.close()
            raise BackendUnavailable(f"the NVIDIA driver does not list its devices: {error}") from error
        self._devices.update({device.device.uuid: device for device in found})
        if not self._devices:
            self.close()
            raise BackendUnavailable("the NVIDIA driver has no device that the agent may see")
        for device in self._devices.values():
            device.read()  # probes it
        if any(device.memory_call_is_old for device in self._devices.values()):
            self._software["nvml_memory"] = "v1: used includes what the driver reserves"

    def sources(self) -> list[_Device]:
        return list(self._devices.values())

    def topology(self) -> Topology | None:
        return None

    def take_events(self) -> list[DeviceEvent]:
        return []

    def software(self) -> dict[str, str]:
        return dict(self._software)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for device in self._devices.values():
            device.forget_handle()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            _log.warning("the NVIDIA driver does not shut down cleanly: %s", error)


def _list_devices(driver: str, clock: Callable[[], float]) -> list[_Device]:
    devices = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            info = DeviceInfo(
                uuid=pynvml.nvmlDeviceGetUUID(handle),
                kind=DeviceKind.NVIDIA,
                index=index,
                model=pynvml.nvmlDeviceGetName(handle),
                pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
                driver_version=driver,
            )
        except pynvml.NVMLError as error:
            # Without its UUID it cannot be told from another device: never shown under a guessed name.
            _log.warning("NVIDIA device %d does not tell its identity: %s", index, error)
            continue
        devices.append(_Device(info, handle, clock))
    return devices


def _versions() -> dict[str, str]:
    versions = {"driver": pynvml.nvmlSystemGetDriverVersion()}
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    except pynvml.NVMLError as error:
        # A container may be given NVML without libcuda: the devices are read all the same.
        _log.info("the CUDA version is not known: %s", error)
    else:
        versions["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
    return versions
