"""What the table of hosts is sorted, filtered and counted by: a line for each host, from the fleet's columns. Called by its view.

The figures are those of its rows (telemetry/views/hosts.py), which are made for the hosts of one page alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from fleet.models import DeviceKind
from telemetry import queries
from telemetry.glance import Glance
from telemetry.glance_parts import HEALTHS, METRICS, HostRow, Part
from telemetry.health import Health
from telemetry.store.samples import Floats

_IDLE_BELOW = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """One host over its counted devices; a figure is None where no device gives it (power: where one does not)."""

    host: HostRow
    part: Part
    health: Health
    utilisation: float | None
    tensor: float | None
    memory: float | None
    power: float | None
    temperature: float | None

    @property
    def devices(self) -> str:
        return words_of([each.model or str(DeviceKind(each.kind).label) for each in self.part.identities])

    @property
    def seen(self) -> datetime | None:
        return self.host.last_seen_at

    @property
    def is_idle(self) -> bool:
        return self.utilisation is not None and self.utilisation < _IDLE_BELOW

    def holds(self, words: Sequence[str], labels: Mapping[str, str]) -> bool:
        """Tell whether every word stands in what the host is called, has, and suffers from."""
        told = " ".join(f"{key}={value}" for key, value in labels.items())
        note = queries.silence(self.host) if self.health is Health.SILENT else " ".join(self.part.notes)
        text = f"{self.host.name} {self.host.cluster} {self.devices} {told} {note}".lower()
        return all(word in text for word in words)


def words_of(models: Sequence[str]) -> str:
    """Return what devices are, such as "8 × NVIDIA H100 80GB HBM3"."""
    return ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models))


def lines(found: Glance) -> list[Line]:
    """Return the hosts' lines by name."""
    used, whole = _column(found, "memory_used_bytes"), _column(found, "memory_total_bytes")
    is_known = ~np.isnan(used) & (whole > 0)
    columns = (
        _means(found, _column(found, "gpu_utilization_ratio")),
        _means(found, _column(found, "tensor_active_ratio")),
        _sums(found, np.where(is_known, used, np.nan)) / _sums(found, np.where(is_known, whole, np.nan)),
        _wholes(found, _column(found, "power_draw_watts")),
        _greatest(found, _column(found, "temperature_celsius")),
    )
    health = [HEALTHS[code] for code in found.host_health.tolist()]
    own = zip(found.hosts, found.parts, health, *(_known(column) for column in columns), strict=True)
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


def _known(column: Floats) -> list[float | None]:
    return [None if np.isnan(value) else value for value in column.tolist()]
