"""The table of hosts as the newest state gives it: a line for each host, from the fleet's columns. Called by its view.

Its rows are shown, sorted, filtered and counted by these; a test holds their figures to those of the hosts' own pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from telemetry.health import Health
from telemetry.newest.glance import Glance
from telemetry.newest.glance_parts import HEALTHS, METRICS, Flags, HostRow, Part
from telemetry.store.samples import Floats

_IDLE_BELOW = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """One host over its counted devices; a figure is None where no device gives it (power: where one does not).

    `is_hot` tells whether the hottest device is slowed by heat.
    """

    host: HostRow
    part: Part
    health: Health
    note: str
    utilisation: float | None
    tensor: float | None
    memory: float | None
    power: float | None
    temperature: float | None
    is_hot: bool

    @property
    def devices(self) -> str:
        return self.part.models

    @property
    def seen(self) -> datetime | None:
        return self.host.last_seen_at

    @property
    def is_idle(self) -> bool:
        return self.utilisation is not None and self.utilisation < _IDLE_BELOW

    @property
    def why_unknown(self) -> str:
        if self.health is Health.SILENT or not self.part.identities:
            return self.note or "no device found"
        return "a device does not give it"

    def holds(self, words: Sequence[str], labels: Mapping[str, str]) -> bool:
        """Tell whether every word stands in what the host is called, has, and suffers from."""
        told = " ".join(f"{key}={value}" for key, value in labels.items())
        notes = self.note if self.health is Health.SILENT else " ".join((self.note, *self.part.notes))
        text = f"{self.host.name} {self.host.cluster} {self.devices} {told} {notes}".lower()
        return all(word in text for word in words)


def lines(found: Glance) -> list[Line]:
    """Return the hosts' lines by name."""
    used, whole = _column(found, "memory_used_bytes"), _column(found, "memory_total_bytes")
    is_known = ~np.isnan(used) & (whole > 0)
    temperature = _greatest(found, _column(found, "temperature_celsius"))
    columns = (
        _means(found, _column(found, "gpu_utilization_ratio")),
        _means(found, _column(found, "tensor_active_ratio")),
        _sums(found, np.where(is_known, used, np.nan)) / _sums(found, np.where(is_known, whole, np.nan)),
        _wholes(found, _column(found, "power_draw_watts")),
        temperature,
    )
    health = [HEALTHS[code] for code in found.host_health.tolist()]
    is_hot = _is_hot(found, temperature).tolist()
    known = (_known(column) for column in columns)
    own = zip(found.hosts, found.parts, health, found.host_notes, *known, is_hot, strict=True)
    return sorted((Line(*each) for each in own), key=lambda line: line.host.name)


def _column(found: Glance, metric: str) -> Floats:
    values: Floats = found.values[:, METRICS.index(metric)]
    return values


def _counts(found: Glance, values: Floats) -> Floats:
    return np.bincount(found.host[~np.isnan(values)], minlength=len(found.hosts)).astype(np.float64)


def _sums(found: Glance, values: Floats) -> Floats:
    """Return the sum over each host's devices, of those that give a value; NaN where none does."""
    sums = np.bincount(found.host, np.nan_to_num(values), minlength=len(found.hosts))
    return np.where(_counts(found, values) > 0, sums, np.nan)


def _means(found: Glance, values: Floats) -> Floats:
    return _sums(found, values) / np.maximum(_counts(found, values), 1)


def _wholes(found: Glance, values: Floats) -> Floats:
    """Return the sum over each host's devices; NaN where one of them gives none: half a sum is none."""
    is_whole = _counts(found, values) == np.bincount(found.host, minlength=len(found.hosts))
    return np.where(is_whole, _sums(found, values), np.nan)


def _greatest(found: Glance, values: Floats) -> Floats:
    greatest = np.full(len(found.hosts), -np.inf)
    known = ~np.isnan(values)
    np.maximum.at(greatest, found.host[known], values[known])
    return np.where(np.isfinite(greatest), greatest, np.nan)


def _is_hot(found: Glance, greatest: Floats) -> Flags:
    """Tell of each host whether the first of its hottest devices is slowed by heat."""
    hottest = np.flatnonzero(_column(found, "temperature_celsius") == greatest[found.host])[::-1]
    is_hot = np.zeros(len(found.hosts), np.bool_)
    is_hot[found.host[hottest]] = found.is_hot[hottest]
    return is_hot


def _known(column: Floats) -> list[float | None]:
    return [None if np.isnan(value) else value for value in column.tolist()]
