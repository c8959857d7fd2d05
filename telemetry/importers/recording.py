"""Rows of recorded files gathered by device, and cut into the windows that the store keeps. Called by the importer.

A device that has a UUID keeps it; others get one that is made from the host's name and the device's place in it, so that
the next file of the same host names the same device.
"""

import uuid
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import isnan, nan
from typing import Any

import numpy as np

from telemetry.importers.rows import Faults, Row
from telemetry.message.wire import UUID, Batch, DeviceInfo, DeviceKind
from telemetry.store.recorded import WINDOW_MS

_NAMESPACE = uuid.UUID("6a2f6cc1-31a0-5b52-8f0e-0c8f0c4f6a5e")


class DeviceUnclear(ValueError):
    """The row does not tell which device it speaks of."""


@dataclass(frozen=True, slots=True)
class Named:
    """A device as a row names it: `said` are the fields of `info` that the file tells, the others stand for nothing."""

    info: DeviceInfo
    said: frozenset[str]


@dataclass(slots=True)
class Recording:
    """One device's samples: `times_ms (n,)`, and per metric a column `(n,)` with NaN where there is no reading.

    `said` are the fields of `device` that any file tells, `newest` how the last row names it.
    """

    host: str
    device: DeviceInfo
    said: frozenset[str] = frozenset()
    newest: Named | None = None
    times_ms: "array[int]" = field(default_factory=lambda: array("q"))
    files: "array[int]" = field(default_factory=lambda: array("i"))  # which file each row comes from, in order
    columns: dict[str, "array[float]"] = field(default_factory=dict)

    def learn(self, named: Named) -> None:
        """Take what a row says of the device; a later one holds, of whichever file."""
        self.newest = named
        self.device = replace(self.device, **{name: getattr(named.info, name) for name in named.said})
        self.said |= named.said

    def add(self, time_ms: int, values: dict[str, float], file: int = 0) -> None:
        self.times_ms.append(time_ms)
        self.files.append(file)
        n = len(self.times_ms)
        for metric, value in values.items():
            column = self.columns.setdefault(metric, array("d"))
            column.extend([nan] * (n - 1 - len(column)))
            column.append(value)

    def windows(self, shift_ms: int, faults: Faults) -> Iterator[Batch]:
        """Yield the samples moved by `shift_ms`, as batches of WINDOW_MS at most, which the store numbers and splits."""
        times = np.array(self.times_ms, dtype=np.int64) + shift_ms
        order = np.argsort(times, kind="stable")
        times = times[order]
        gaps = np.diff(np.unique(times))
        seconds = min(max(float(np.median(gaps)) / 1000, 0.01), 3600.0) if gaps.size else 1.0
        columns = {metric: self._column(metric)[order] for metric in self.columns}
        files = np.array(self.files, dtype=np.int32)[order]
        times, columns = self._joined(times, files, columns, faults)
        for start in _starts(times):
            yield self._window(times[start], {m: c[start] for m, c in columns.items()}, seconds)

    def _column(self, metric: str) -> np.ndarray:
        column = np.full(len(self.times_ms), np.nan)
        column[: len(self.columns[metric])] = self.columns[metric]
        return column

    def _window(self, times: np.ndarray, columns: dict[str, np.ndarray], seconds: float) -> Batch:
        at = times.tolist()
        return Batch(
            host=self.host,
            epoch=_epoch(self.host, self.device.uuid),
            sequence=0,
            segment=0,
            sent_ms=at[-1],
            times_ms=at,
            devices=[self.device],
            columns={m: [_values(c)] for m, c in columns.items() if not np.isnan(c).all()},
            sample_seconds=seconds,
        )

    @property
    def name(self) -> str:
        return f"{self.device.kind} {self.device.index if 'index' in self.said else self.device.uuid}"

    def _joined(
        self, times: np.ndarray, files: np.ndarray, columns: dict[str, np.ndarray], faults: Faults
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Join rows of one time, `(n,)` sorted by it and then by file: what a later file says holds.

        Two rows of one file that say different things of one metric are a bad row: the first of them holds.
        """
        at, first = np.unique(times, return_index=True)
        if at.size == times.size:
            return times, columns
        joined = {metric: column[first] for metric, column in columns.items()}
        for row in np.setdiff1d(np.arange(times.size), first):
            place = int(np.searchsorted(at, times[row]))
            is_same_file = files[row] == files[row - 1]
            said = {m: c[row] for m, c in columns.items() if not isnan(c[row])}
            if is_same_file and any(not isnan(joined[m][place]) and joined[m][place] != v for m, v in said.items()):
                what = f"two rows of {self.name} have the time {times[row]} and differ"
                faults.add(self.host, f"{what}; does the file lack a column index or uuid?")
                continue
            for metric, value in said.items():
                joined[metric][place] = value
        return at, joined


def _starts(times: np.ndarray) -> Iterator[slice]:
    """Yield the slices of sorted times `(n,)` that lie in one window each."""
    edges = np.flatnonzero(np.diff(times // WINDOW_MS)) + 1
    yield from (slice(a, b) for a, b in zip([0, *edges.tolist()], [*edges.tolist(), times.size], strict=True) if b > a)


def _values(column: np.ndarray) -> list[float | None]:
    return [None if isnan(value) else value for value in column.tolist()]


def _epoch(host: str, device: str) -> str:
    return blake2b(f"recorded/{host}/{device}".encode(), digest_size=16).hexdigest()


def device_of(row: Row, *, is_gpu_file: bool) -> Named:
    """Return which device a row speaks of; one that names none is the host as a whole. Raises DeviceUnclear."""
    said = dict(row.device)
    place = said.get("device", said.get("index", ""))
    bus = said.get("pci_bus_id", "")
    kind = _kind(said, has_device=is_gpu_file or bool(place or bus or "uuid" in said))
    own = said.get("uuid", "")
    if place and not place.isdecimal():
        own, place = own or place, ""
    if own and not UUID.fullmatch(own):
        raise DeviceUnclear(f"uuid: {own!r} has characters that no driver gives")
    if len(place) > 4:
        raise DeviceUnclear(f"index: {place[:20]} is too large")
    made = uuid.uuid5(_NAMESPACE, f"{row.host}/{kind}/{place or bus or 0}")
    told = {
        "index": int(place) if place else None,
        "model": said.get("model", "")[:500],
        "pci_bus_id": bus[:32],
        "driver_version": said.get("driver_version", "")[:100],
    }
    known: dict[str, Any] = {name: value for name, value in told.items() if value not in {None, ""}}
    unknown: dict[str, Any] = {"index": 0, "model": ""}
    info = DeviceInfo(own or str(made), kind, **unknown | known)
    return Named(info, frozenset(known) | ({"kind"} & said.keys()))


def _kind(said: Mapping[str, str], *, has_device: bool) -> DeviceKind:
    """Return the kind that a row tells; where it tells none, what recordings mostly are of. Raises DeviceUnclear."""
    if "kind" not in said:
        return DeviceKind.NVIDIA if has_device else DeviceKind.NODE
    try:
        return DeviceKind(said["kind"].lower())
    except ValueError:
        raise DeviceUnclear(f"kind: {said['kind'][:20]!r} is none of {', '.join(DeviceKind)}") from None
