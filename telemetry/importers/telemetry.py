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
from telemetry.importers.recording import DeviceUnclear, Named, Recording, device_of
from telemetry.importers.rows import Faults, FileUnusable, Row, read_rows
from telemetry.importers.vocabulary import Header
from telemetry.message.wire import DeviceKind
from telemetry.store import recorded

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
        n_good = _gather(path, rows, recordings, number, report.faults, is_gpu_file=_is_of_gpus(header))
        if not n_good:
            shown = "; ".join(report.faults.shown[:3])
            raise FileUnusable(f"{path}: no row could be used{f' ({shown})' if shown else ''}; nothing was changed")
        report.rows += n_good
    _write(list(recordings.values()), now, cluster, report, progress, shift_to_now=shift_to_now)
    return report


def _gather(
    path: Path, rows: Iterable[Row], recordings: dict[tuple[str, str], Recording], number: int, faults: Faults, *,
    is_gpu_file: bool,
) -> int:  # fmt: skip
    """Add a file's rows to the recordings by host and device's UUID; returns how many there were."""
    n_good, known = 0, dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Recording, Named]]()
    for row in rows:
        found = known.get((row.host, row.device))
        if found is None:
            try:
                named = device_of(row, is_gpu_file=is_gpu_file)
            except DeviceUnclear as error:
                faults.add(f"{path}, line {row.line}", str(error))
                continue
            recording = recordings.setdefault((row.host, named.info.uuid), Recording(row.host, named.info))
            found = known[row.host, row.device] = recording, named
        recording, named = found
        if recording.newest is not named:
            recording.learn(named)
        recording.add(row.time_ms, row.values, number)
        n_good += 1
    return n_good


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
        _know_device(hosts[recording.host], recording)
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


def _know_device(host: Host, recording: Recording) -> None:
    """Have the device's row say what the files say of it. What none of them says is not known, or stays as it was."""
    info = recording.device
    told = {name: str(info.kind) if name == "kind" else getattr(info, name) for name in recording.said}
    device = Device.objects.select_related("host").filter(uuid=info.uuid).first()
    if device is None:
        unsaid = {"kind": str(info.kind), "index": 0 if info.kind is DeviceKind.NODE else None}
        Device.objects.create(host=host, uuid=info.uuid, **unsaid | told)
    elif device.host_id != host.pk:
        raise FileUnusable(
            f"device {info.uuid} belongs to host {device.host.name}, not to {host.name}; nothing was changed"
        )
    elif told:
        Device.objects.filter(pk=device.pk).update(**told)
