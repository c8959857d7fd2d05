"""Google TPUs through the metric service that a workload's runtime offers on this host (gRPC, localhost:8431).

Called by the sampler. The service exists only while a workload runs: refused connections and empty answers are normal.
Chips are found on the PCI bus. grpcio and tpu-info's messages (extra `tpu`) are imported only where there is a chip.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry.agent.backends.identity import stable_uuid
from telemetry.agent.backends.kernel import this_machine
from telemetry.agent.backends.ownership import describe
from telemetry.agent.backends.protocol import BackendUnavailable, Reading
from telemetry.catalog import AbsentReason
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, Topology

ADDRESS = "localhost:8431"
_CALL = "/tpu.monitoring.runtime.RuntimeMetricService/GetRuntimeMetric"
_DEADLINE_SECONDS = 0.2

_GOOGLE = "0x1ae0"
# PCI device id (v2 and v3: and subsystem id) → (name, cores that the runtime counts as devices). Source: tpu-info's device.py.
_CHIPS: dict[tuple[str, str], tuple[str, int]] = {
    ("0x0027", "0x004e"): ("TPU v2", 2),
    ("0x0027", "0x004f"): ("TPU v3", 2),
    ("0x005e", ""): ("TPU v4", 1),
    ("0x0063", ""): ("TPU v5e", 1),
    ("0x0062", ""): ("TPU v5p", 1),
    ("0x006f", ""): ("TPU v6e", 1),
    ("0x0076", ""): ("TPU7x", 2),
}
_DUTY_PER_CHIP = {"TPU v2", "TPU v3"}  # their runtime tells the duty cycle of a chip, not of its cores
_OWNED = re.compile(r"/dev/(?:accel|vfio/)(\d+)")

_BYTES, _PERCENT = 1.0, 0.01
# The runtime's name → (reading, factor to base units, highest believable value).
_METRICS: dict[str, tuple[str, float, float]] = {
    "tpu.runtime.hbm.memory.total.bytes": ("memory_total_bytes", _BYTES, 2.0**50),
    "tpu.runtime.hbm.memory.usage.bytes": ("memory_used_bytes", _BYTES, 2.0**50),
    "tpu.runtime.tensorcore.dutycycle.percent": ("gpu_utilization_ratio", _PERCENT, 1.0),
    "tpu.runtime.hbm.utilization.percent": ("dram_active_ratio", _PERCENT, 1.0),
}
_READINGS = (*(row[0] for row in _METRICS.values()), "memory_free_bytes", "memory_used_ratio")


@dataclass(frozen=True, slots=True)
class _Chip:
    address: str
    name: str
    cores: int
    group: str  # the number of its file under /dev/vfio, or its place under /dev/accel


class _Service:
    """The runtime's metrics of one moment, asked once for all devices of a tick."""

    def __init__(self, address: str, n_devices: int, duty_cores: int) -> None:
        try:
            import grpc
            from tpu_info.proto import tpu_metric_service_pb2 as messages
        except ImportError as error:
            raise BackendUnavailable(
                "TPUs found, but not what reads them: pip install 'stepwatt-agent[tpu]'"
            ) from error
        self._grpc, self._messages = grpc, messages
        self._n_devices, self._duty_cores = n_devices, duty_cores
        # Keeps trying while nobody listens; the pause between tries must not outlast a tick by much.
        options = [("grpc.max_reconnect_backoff_ms", 2000), ("grpc.initial_reconnect_backoff_ms", 500)]
        self._channel = grpc.secure_channel(address, grpc.local_channel_credentials(), options=options)
        self._ask = self._channel.unary_unary(
            _CALL,
            request_serializer=messages.MetricRequest.SerializeToString,
            response_deserializer=messages.MetricResponse.FromString,
        )
        self._answers: dict[str, list[Reading]] | None = None

    def forget(self) -> None:
        """A new tick begins: what was asked for the last one no longer counts."""
        self._answers = None

    def readings(self, index: int) -> dict[str, Reading]:
        if self._answers is None:
            self._answers = self._ask_all()
        return {metric: values[index] for metric, values in self._answers.items()}

    def close(self) -> None:
        self._channel.close()

    def _ask_all(self) -> dict[str, list[Reading]]:
        found: dict[str, list[Reading]] = {}
        for name, (metric, factor, highest) in _METRICS.items():
            try:
                answer = self._ask(self._messages.MetricRequest(metric_name=name), timeout=_DEADLINE_SECONDS)
            except self._grpc.RpcError as error:
                reason = self._reason(error)
                if reason is AbsentReason.NO_WORKLOAD:  # nobody listens: the other metrics need not be asked
                    return {row[0]: [reason for _ in range(self._n_devices)] for row in _METRICS.values()}
                found[metric] = [reason for _ in range(self._n_devices)]
            else:
                cores = self._duty_cores if metric == "gpu_utilization_ratio" else 1
                found[metric] = self._by_device(answer.metric.metrics, factor, highest, cores)
        return found

    def _by_device(self, rows: Any, factor: float, highest: float, cores: int) -> list[Reading]:
        """Return one reading a device, placed by the id that each row names; a device without a row has no workload.

        A row stands for `cores` devices. On the later hosts of a pod ids begin above 0, at a multiple of this host's number.
        """
        found: list[Reading] = [AbsentReason.NO_WORKLOAD] * self._n_devices
        ids = {row.attribute.value.int_attr for row in rows}
        n_places = self._n_devices // cores
        if not ids:
            return found
        if len(ids) != len(rows) or min(ids) < 0 or min(ids) // n_places != max(ids) // n_places:
            return [AbsentReason.UNKNOWN] * self._n_devices  # which device a value belongs to cannot be told
        for row in rows:
            place = row.attribute.value.int_attr % n_places
            found[place * cores : (place + 1) * cores] = [_value(row.gauge, factor, highest)] * cores
        return found

    def _reason(self, error: Any) -> AbsentReason:
        codes = self._grpc.StatusCode
        return {
            codes.UNAVAILABLE: AbsentReason.NO_WORKLOAD,
            codes.NOT_FOUND: AbsentReason.NOT_SUPPORTED,  # this runtime does not know the metric
            codes.UNIMPLEMENTED: AbsentReason.NOT_SUPPORTED,
            codes.INVALID_ARGUMENT: AbsentReason.NOT_SUPPORTED,
            codes.PERMISSION_DENIED: AbsentReason.NO_PERMISSION,
            codes.DEADLINE_EXCEEDED: AbsentReason.TIMEOUT,
        }.get(error.code(), AbsentReason.UNKNOWN)


def _value(gauge: Any, factor: float, highest: float) -> Reading:
    """Return the gauge's number, whichever of its members holds one; an empty gauge is no zero."""
    member = gauge.WhichOneof("value")
    if member not in {"as_int", "as_double"}:
        return AbsentReason.UNKNOWN
    value = float(getattr(gauge, member)) * factor
    return value if 0 <= value <= highest else AbsentReason.UNKNOWN  # NaN compares false


@dataclass(slots=True)
class _Device:
    device: DeviceInfo
    group: str
    place: int
    service: _Service
    proc: Path

    def read(self) -> Mapping[str, Reading]:
        readings = self.service.readings(self.place)
        total, used = readings["memory_total_bytes"], readings["memory_used_bytes"]
        if isinstance(total, AbsentReason) or isinstance(used, AbsentReason):
            reason = total if isinstance(total, AbsentReason) else used
            return readings | {"memory_free_bytes": reason, "memory_used_ratio": reason}
        if not 0 < total >= used:
            return readings | {"memory_free_bytes": AbsentReason.UNKNOWN, "memory_used_ratio": AbsentReason.UNKNOWN}
        return readings | {"memory_free_bytes": total - used, "memory_used_ratio": used / total}

    def processes(self) -> list[DeviceProcess] | None:
        """Return who holds the chip's device file, as far as the agent may look into other people's processes."""
        found = []
        for folder in self.proc.glob("[0-9]*/fd"):
            try:
                targets = {str(link.readlink()) for link in folder.iterdir()}
            except OSError:  # it ended meanwhile, or belongs to somebody else and the agent is not root
                continue
            if any((owned := _OWNED.fullmatch(target)) and owned[1] == self.group for target in targets):
                pid = int(folder.parent.name)
                owner = describe(pid, self.proc)
                found.append(
                    DeviceProcess(pid, owner.command, owner.user, container=owner.container, slurm_job=owner.slurm_job)
                )
        return found


class TpuBackend:
    """Every TPU core that a runtime counts as a device. `directory` keeps the machine's id where the system has none."""

    name = "tpu"
    releasable = False  # only a client of the runtime's service: it holds no driver

    def __init__(
        self, directory: Path, *, sys: Path = Path("/sys"), proc: Path = Path("/proc"), address: str = ADDRESS
    ) -> None:
        self._directory, self._sys, self._proc, self._address = directory, sys, proc, address
        self._devices: list[_Device] = []
        self._service: _Service | None = None

    def open(self) -> None:
        chips = _find_chips(self._sys)
        if not chips:
            raise BackendUnavailable("no TPU on the PCI bus")
        duty_cores = chips[0].cores if chips[0].name in _DUTY_PER_CHIP else 1  # a host has chips of one kind
        self._service = _Service(self._address, sum(chip.cores for chip in chips), duty_cores)
        machine = this_machine(self._directory)
        cores = [(chip, core) for chip in chips for core in range(chip.cores)]
        self._devices = [
            _Device(_info(machine, chip, core, index), chip.group, index, self._service, self._proc)
            for index, (chip, core) in enumerate(cores)
        ]

    def sources(self) -> list[_Device]:
        if self._service is not None:
            self._service.forget()
        return self._devices

    def software(self) -> dict[str, str]:
        return {}

    def topology(self) -> Topology | None:
        return None

    def take_events(self) -> list[DeviceEvent]:
        return []

    def close(self) -> None:
        if self._service is not None:
            self._service.close()
        self._service = None


def _info(machine: str, chip: _Chip, core: int, index: int) -> DeviceInfo:
    address = chip.address if chip.cores == 1 else f"{chip.address}/core-{core}"
    return DeviceInfo(stable_uuid(machine, DeviceKind.TPU, address), DeviceKind.TPU, index, chip.name, chip.address)


def _find_chips(sys: Path) -> list[_Chip]:
    """Return the chips in the order in which the runtime counts them: by the number of their device file."""
    chips: list[_Chip] = []
    for folder in sorted(sys.glob("bus/pci/devices/*")):
        try:
            if (folder / "vendor").read_text().strip() != _GOOGLE:
                continue
            device = (folder / "device").read_text().strip()
            subsystem = (folder / "subsystem_device").read_text().strip()
        except OSError:  # the device left the bus between the listing and the reading
            continue
        known = _CHIPS.get((device, subsystem)) or _CHIPS.get((device, ""))
        if known:
            chips.append(_Chip(folder.name, *known, group=_group(folder, len(chips))))
    return sorted(chips, key=lambda chip: int(chip.group))


def _group(folder: Path, place: int) -> str:
    group = folder / "iommu_group"
    return group.readlink().name if group.is_symlink() else str(place)
