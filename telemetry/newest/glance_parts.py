"""One host's part of the fleet's columns: what its counted devices read and how they stand. Pure; called by glance.py.

The same rules as the pages of single hosts (queries.py); a test holds the two together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.models import ACCELERATORS, DeviceKind, has_gone_silent, shown_index
from telemetry.catalog import AbsentReason
from telemetry.exposition.presence import STALE_MS, is_part
from telemetry.health import Finding, Health, is_read, judge
from telemetry.health.judgement import HEAT
from telemetry.newest import queries
from telemetry.store.newest import Identity
from telemetry.store.samples import Floats

METRICS = (
    "gpu_utilization_ratio", "tensor_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_draw_watts",
    "power_limit_watts", "temperature_celsius",
)  # fmt: skip
HEALTHS = (Health.OK, Health.SILENT, Health.WARN, Health.CRIT)  # by gravity; a column holds the position
CODE = {health: code for code, health in enumerate(HEALTHS)}
_LABELS = {kind.value: str(kind.label) for kind in DeviceKind}
_UNKNOWN = (np.nan,) * len(METRICS)

Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]


class HostRow(NamedTuple):
    """A host as the columns need it, in the order in which it is read."""

    pk: int
    name: str
    cluster: str
    origin: str
    heard_at: datetime | None
    last_seen_at: datetime | None
    public_key: bytes

    @property
    def has_reported(self) -> bool:
        return self.heard_at is not None or self.last_seen_at is not None

    def is_silent(self, now: datetime) -> bool:
        return has_gone_silent(self.origin, self.heard_at, now)


class Known(NamedTuple):
    """A device as it stands, apart from its host's silence and from alerts."""

    identity: Identity
    health: Health
    note: str
    values: Mapping[str, float]
    absent: Mapping[str, str]

    @property
    def title(self) -> str:
        return _title(self.identity)


@dataclass(frozen=True, slots=True)
class Part:
    """The counted devices of a host, each column `(n,)` and `values (n, n_metrics)`, NaN where a reading is absent.

    `rank` is what they are: 0 accelerators, 1 CPUs, 2 the host as a whole; `models` is what they are called together.
    `known` are all its devices by id in the pages' order, with their titles, and `worst` is the gravest among them that are not
    silent; `why` is the first counted device's reason by absent metric.
    """

    rank: int
    identities: list[Identity]
    titles: list[str]
    models: str
    values: Floats
    is_read: Flags
    is_hot: Flags
    health: Codes
    notes: list[str]
    known: Mapping[int, tuple[str, Finding]]
    worst: Finding
    why: Mapping[str, str]
    has_given: bool

    @property
    def has_notes(self) -> bool:
        return any(self.notes)


def of_host(
    host: HostRow, identities: Sequence[Identity], at_ms: int, readings: Mapping[str, Any], xids: Mapping[int, Sequence[int]]
) -> Part:  # fmt: skip
    """Judge what LatestState holds of a host: `identities` in the pages' order, `xids` of the last hour by device id."""
    found = list(_devices(host, identities, at_ms, readings, xids))
    rank, counted = _counted(found)
    known = {each.identity.pk: (each.title, Finding(each.health, each.note)) for each in found}
    return Part(
        rank=rank,
        identities=[device.identity for device in counted],
        titles=[device.title for device in counted],
        models=words_of([d.identity.model or _LABELS[d.identity.kind] for d in counted]),
        values=np.array([_row(device.values) for device in counted], np.float64).reshape(-1, len(METRICS)),
        is_read=np.array([is_read(device.values) for device in counted], np.bool_),
        is_hot=np.array([bool(int(d.values.get("clock_event_reasons", 0)) & HEAT) for d in counted], np.bool_),
        health=np.array([CODE[device.health] for device in counted], np.int8),
        notes=[device.note for device in counted],
        known=known,
        worst=worst_of(known.values()),
        why=counted[0].absent if counted else {},
        has_given=bool(readings),
    )


def _devices(
    host: HostRow, identities: Sequence[Identity], at_ms: int, readings: Mapping[str, Any], xids: Mapping[int, Sequence[int]]
) -> Iterator[Known]:  # fmt: skip
    for identity in identities:
        newest = readings.get(identity.uuid)
        if newest is None:
            if not is_part(identity):  # a MIG instance that its host does not name any more is gone
                yield Known(identity, Health.SILENT, queries.silence(host), {}, {})
            continue
        if abs(at_ms - newest["at_ms"]) > STALE_MS:
            yield Known(identity, Health.SILENT, queries.STALE_WORDS, {}, {})
            continue
        absent = newest["absent"]
        values = {} if AbsentReason.GPU_IS_LOST in absent.values() else newest["values"]
        judged = judge(values, absent, xids.get(identity.pk, ()))
        yield Known(identity, judged.health, judged.note, values, absent)


def _counted(found: Sequence[Known]) -> tuple[int, list[Known]]:
    """Return the devices that figures speak of, and their rank: as fleet_state.counted."""
    for rank, kinds in enumerate((ACCELERATORS, (DeviceKind.CPU,))):
        some = [d for d in found if d.identity.kind in kinds and not is_part(d.identity)]
        if some:
            return rank, some
    return 2, [d for d in found if d.identity.kind == DeviceKind.NODE]


def _row(values: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(values.get(name, np.nan) for name in METRICS) if values else _UNKNOWN


def worst_of(devices: Iterable[tuple[str, Finding]]) -> Finding:
    """Return the gravest of a host's devices that are not silent, the first of equal ones; its note begins with its title."""
    worst = Finding(Health.OK, "")
    for title, found in devices:
        if found.health is not Health.SILENT and CODE[found.health] > CODE[worst.health]:
            worst = Finding(found.health, f"{title}: {found.note}")
    return worst


def words_of(models: Sequence[str]) -> str:
    """Return what devices are, such as "8 × NVIDIA H100 80GB HBM3"."""
    return ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models))


def _title(identity: Identity) -> str:
    """Return what Device.title does."""
    if identity.profile:
        return f"MIG {shown_index(identity.index)} ({identity.profile})"
    return f"{_LABELS[identity.kind]} {shown_index(identity.index)}"
