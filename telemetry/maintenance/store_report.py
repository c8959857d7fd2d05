"""How the store stands, for the settings page: what its tables hold, what its upkeep did and does next, what was set aside."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from celery import current_app
from django.conf import settings
from django.db.models import Count, Max, Sum

from fleet.models import Device
from telemetry.maintenance import disk_limit, retention
from telemetry.models import MaintenanceRun, SetAside, TableFigures, Unreadable

_ROLLUPS = ("STEPWATT_RETENTION_1M", "STEPWATT_RETENTION_15M", "STEPWATT_RETENTION_1H")
_TABLES = {
    "telemetry_storedbatch": ("Batches as they came", "STEPWATT_RETENTION_RAW"),
    "telemetry_chunk": ("Samples, by device and hour", "STEPWATT_RETENTION_RAW"),
    "telemetry_rollup": ("Statistics of devices", *_ROLLUPS),
    "telemetry_grouprollup": ("Statistics of groups", *_ROLLUPS),
    "telemetry_setaside": ("Set aside, in no figure", "STEPWATT_RETENTION_RAW"),
}
_AT_LEAST = {"telemetry_setaside": retention.SET_ASIDE_KEPT}
# Which entry of the beat's schedule runs each kind of upkeep; None: a person does.
_TASKS = {
    "compaction": "telemetry.compact",
    "rollups": "telemetry.roll_up",
    "rollups joined": "telemetry.join_rollups",
    "verification": None,
}
_UPKEEP = "telemetry.retire"
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Table:
    """`kept` says how long, and by which settings; `figures` is None before the first counting."""

    label: str
    figures: TableFigures | None
    oldest: datetime | None
    kept: str


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`next_at` is None where nothing is scheduled. Where it has passed it is due: not every run that finds nothing is noted."""

    run: MaintenanceRun
    next_at: datetime | None
    is_due: bool


@dataclass(frozen=True, slots=True)
class Aside:
    host: str
    reason: str
    n_batches: int
    n_values: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Unread:
    """Samples of a device that cannot be read, or, where `uuid` is "", of any of the host's; `device` is its title."""

    host: str
    uuid: str
    device: str
    begins: datetime
    ends: datetime
    what: str
    found_at: datetime


@dataclass(frozen=True, slots=True)
class StoreReport:
    fill: disk_limit.Fill
    tables: list[Table]
    upkeep: list[Upkeep]
    aside: list[Aside]
    unread: list[Unread]


def report(now: datetime) -> StoreReport:
    figures = {row.table: row for row in TableFigures.objects.all()}
    return StoreReport(
        fill=disk_limit.fill(),
        tables=[_table(name, figures.get(name)) for name in _TABLES],
        upkeep=[_upkeep(run, now) for run in MaintenanceRun.objects.order_by("name")],
        aside=_aside(),
        unread=_unread(),
    )


def _table(name: str, figures: TableFigures | None) -> Table:
    label, *names = _TABLES[name]
    oldest_ms = figures.oldest_ms if figures else None
    oldest = None if oldest_ms is None else datetime.fromtimestamp(oldest_ms / 1000, UTC)
    least = _AT_LEAST.get(name, timedelta()).total_seconds()
    days = ", ".join(f"{max(getattr(settings, setting), least) / 86_400:,.4g}" for setting in names)
    by = [*names, f"at least {least / 86_400:.0f}"] if least else names
    return Table(label, figures, oldest, f"{days} days ({', '.join(by)})")


def _upkeep(run: MaintenanceRun, now: datetime) -> Upkeep:
    next_at = _next(run)
    return Upkeep(run, next_at, is_due=next_at is not None and next_at <= now)


def _next(run: MaintenanceRun) -> datetime | None:
    """Return when beat asks for it again; None where no schedule names it."""
    schedule: Mapping[str, Mapping[str, object]] = current_app.conf.beat_schedule
    task = _TASKS.get(run.name, _UPKEEP)
    seconds = next((entry["schedule"] for entry in schedule.values() if entry["task"] == task), None)
    return run.started_at + timedelta(seconds=seconds) if isinstance(seconds, int | float) else None


def _aside() -> list[Aside]:
    rows = SetAside.objects.values("host__name", "reason").annotate(
        n_batches=Count("pk"), n_values=Sum("n_values"), last_at=Max("received_at")
    )
    return [
        Aside(row["host__name"], row["reason"], row["n_batches"], row["n_values"], row["last_at"])
        for row in rows.order_by("-last_at")[:_SHOWN]
    ]


def _unread() -> list[Unread]:
    rows = list(Unreadable.objects.select_related("host").order_by("-start_ms", "-pk")[:_SHOWN])
    titles = {each.uuid: each.title for each in Device.objects.filter(uuid__in={row.uuid for row in rows})}
    return [
        Unread(
            row.host.name,
            row.uuid,
            titles.get(row.uuid, row.uuid),
            _at(row.start_ms),
            _at(row.end_ms),
            row.what,
            row.found_at,
        )
        for row in rows
    ]


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
