"""Importing recorded telemetry: files → hosts of origin `imported`, their devices and samples. Called by the command.

First everything is read and judged, then written, window by window; repeating an import that was broken off ends in the
same rows. Recorded hosts have no present: they are neither silent nor retired by age.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from django.db import transaction

from fleet.models import Device, Host, Origin
from telemetry.importers.recording import DeviceUnclear, Recording, device_of
from telemetry.importers.rows import Faults, FileUnusable, read_rows
from telemetry.importers.vocabulary import Header
from telemetry.store import recorded
from telemetry.wire import DeviceInfo

_FUTURE_MS = 60_000


@dataclass(slots=True)
class Report:
    """What an import did: rows read, windows that changed the store, and what was left out."""

    rows: int = 0
    samples: int = 0
    windows: int = 0
    hosts: set[str] = field(default_factory=set)
    devices: int = 0
    ignored_columns: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    first_ms: int = 0
    last_ms: int = 0


def import_files(
    paths: Sequence[Path], now: datetime, *, host: str = "", cluster: str = "", columns: Mapping[str, str] | None = None,
    zone: tzinfo = UTC, shift_to_now: bool = False, progress: Callable[[int, int], None] | None = None,
) -> Report:  # fmt: skip
    """Import the files; returns what was done. Raises FileUnusable, before anything is written."""
    report = Report()
    latest_ms = int(now.timestamp() * 1000) + _FUTURE_MS
    recordings: dict[tuple[str, str], Recording] = {}
    for number, path in enumerate(paths):
        header, rows = read_rows(
            path, host=host, columns=columns or {}, zone=zone, latest_ms=latest_ms, faults=report.faults
        )
        report.ignored_columns |= set(header.ignored)
        before = report.rows
        for row in rows:
            try:
                device = device_of(row, is_gpu_file=_is_of_gpus(header))
            except DeviceUnclear as error:
                report.faults.add(str(path), str(error))
                continue
            recordings.setdefault((row.host, device.uuid), Recording(row.host, device)).add(
                row.time_ms, row.values, number
            )
            report.rows += 1
        if report.rows == before:
            shown = "; ".join(report.faults.shown[:3])
            raise FileUnusable(f"{path}: no row could be used{f' ({shown})' if shown else ''}; nothing was changed")
    _write(list(recordings.values()), now, cluster, report, progress, shift_to_now=shift_to_now)
    return report


def _is_of_gpus(header: Header) -> bool:
    return any("." in column.header for column in header.metrics)  # only nvidia-smi's names have points


def _write(
    recordings: Sequence[Recording], now: datetime, cluster: str, report: Report, progress: Callable[[int, int], None] | None,
    *, shift_to_now: bool,
) -> None:  # fmt: skip
    last = max(max(recording.times_ms) for recording in recordings)
    shift_ms = int(now.timestamp()) * 1000 - last if shift_to_now else 0
    report.first_ms = min(min(recording.times_ms) for recording in recordings) + shift_ms
    report.last_ms = last + shift_ms
    hosts = _know(recordings, cluster)
    report.hosts, report.devices = set(hosts), len(recordings)
    for number, recording in enumerate(recordings):
        for window in recording.windows(shift_ms, report.faults):
            report.windows += recorded.keep(hosts[recording.host], window)
            report.samples += sum(value is not None for columns in window.columns.values() for value in columns[0])
        if progress:
            progress(number + 1, len(recordings))


@transaction.atomic
def _know(recordings: Iterable[Recording], cluster: str) -> dict[str, Host]:
    """Return the hosts by name, with rows for all their devices; all of them or, with FileUnusable, none."""
    hosts: dict[str, Host] = {}
    for recording in recordings:
        if recording.host not in hosts:
            hosts[recording.host] = _know_host(recording.host, cluster)
        _know_device(hosts[recording.host], recording.device)
    return hosts


def _know_host(name: str, cluster: str) -> Host:
    host, _ = Host.objects.get_or_create(name=name, defaults={"origin": Origin.IMPORTED, "cluster": cluster})
    if host.origin != Origin.IMPORTED:
        raise FileUnusable(
            f"host {name} is {host.origin}: recorded telemetry may not mix with it; choose another --host"
        )
    if cluster and host.cluster != cluster:
        Host.objects.filter(pk=host.pk).update(cluster=cluster)
    return host


def _know_device(host: Host, info: DeviceInfo) -> None:
    fields = {"kind": info.kind.value, "index": info.index, "model": info.model, "pci_bus_id": info.pci_bus_id,
              "driver_version": info.driver_version}  # fmt: skip
    device = Device.objects.select_related("host").filter(uuid=info.uuid).first()
    if device is None:
        Device.objects.create(host=host, uuid=info.uuid, **fields)
    elif device.host_id != host.pk:
        raise FileUnusable(
            f"device {info.uuid} belongs to host {device.host.name}, not to {host.name}; nothing was changed"
        )
    else:
        # The index 0 is also that of a file which names none.
        told = {name: value for name, value in fields.items() if value not in {"", 0}}
        Device.objects.filter(pk=device.pk).update(**told)
