"""The tables of hosts, devices and settings as files: base units, what is unknown empty. Called by those pages' views."""

from collections.abc import Iterable, Sequence

from django.http import HttpResponse

from fleet.web.csv_answer import csv_answer
from telemetry.maintenance.store_report import StoreReport
from telemetry.models import Delivery, NotificationTarget, Silence
from telemetry.newest.fleet_state import DeviceState
from telemetry.prices.device_prices import Wanted
from telemetry.views.host_panels import Joined, User

_USERS = ("device", "uuid", "pid", "command", "user", "memory_used_bytes", "sm_ratio", "container", "slurm_job",
          "only_draws")  # fmt: skip
_PARTS = ("instance", "part_of", "state", "note", "sm_active_ratio", "memory_used_bytes", "memory_total_bytes", "uuid")


def users(name: str, found: Iterable[User]) -> HttpResponse:
    rows = (
        (u.state.device.title, u.state.device.uuid, u.process.pid or None, u.process.command, u.process.user,
         u.process.memory_bytes, u.process.sm_ratio, u.process.container, u.process.slurm_job, u.process.only_draws)
        for u in found
    )  # fmt: skip
    return csv_answer(f"{name}-processes", _USERS, rows)


def parts(name: str, found: Iterable[DeviceState]) -> HttpResponse:
    metrics = ("sm_active_ratio", "memory_used_bytes", "memory_total_bytes")
    rows = (
        (p.device.title, p.device.parent.title if p.device.parent else "", p.health.value, p.note,
         *(p.values.get(metric) for metric in metrics), p.device.uuid)
        for p in found
    )  # fmt: skip
    return csv_answer(f"{name}-instances", _PARTS, rows)


def topology(name: str, found: Sequence[Joined]) -> HttpResponse:
    head = ("device", *(row.state.device.title for row in found), "numa_node")
    return csv_answer(f"{name}-topology", head, ((row.state.device.title, *row.ways, row.numa) for row in found))


def store(report: StoreReport) -> HttpResponse:
    rows = (
        (t.label, t.figures.n_rows if t.figures else None, t.figures.n_bytes if t.figures else None, t.oldest, t.kept,
         t.figures.counted_at if t.figures else None)
        for t in report.tables
    )  # fmt: skip
    return csv_answer("store", ("holds", "rows", "bytes", "oldest", "kept", "counted_at"), rows)


def upkeep(report: StoreReport) -> HttpResponse:
    rows = ((u.run.name, u.run.started_at, u.run.seconds, u.run.done, u.next_at, u.run.note) for u in report.upkeep)
    return csv_answer("upkeep", ("what", "started_at", "seconds", "rows", "next_at", "said"), rows)


def aside(report: StoreReport) -> HttpResponse:
    rows = ((a.host, a.reason, a.n_batches, a.n_values, a.last_at) for a in report.aside)
    return csv_answer("set-aside", ("host", "reason", "batches", "values", "last_at"), rows)


def unread(report: StoreReport) -> HttpResponse:
    rows = ((u.host, u.uuid, u.begins, u.ends, u.what, u.found_at) for u in report.unread)
    return csv_answer("cannot-be-read", ("host", "uuid", "begins", "ends", "what", "found_at"), rows)


def targets(found: Iterable[tuple[NotificationTarget, Delivery | None]]) -> HttpResponse:
    """Return where alerts are told, without the secrets that sign what is sent."""
    rows = (
        (t.name, t.kind, t.address, t.severity, last.delivered_at if last else None, last.error if last else "")
        for t, last in found
    )
    return csv_answer("targets", ("name", "kind", "address", "severity", "delivered_at", "error"), rows)


def silences(found: Iterable[Silence]) -> HttpResponse:
    rows = (
        (s.rule, s.host.name if s.host else "", s.label_key, s.label_value, s.comment, s.created_by, s.ends_at)
        for s in found
    )
    return csv_answer("silences", ("rule", "host", "label_key", "label_value", "why", "by", "ends_at"), rows)


def device_prices(found: Iterable[Wanted], currency: str) -> HttpResponse:
    rows = (
        (
            w.model,
            w.n_devices,
            *((w.price.price, w.price.years, w.price.used_ratio) if w.price else (None,) * 3),
            currency,
        )
        for w in found
    )
    return csv_answer("device-prices", ("model", "devices", "price", "years", "used_ratio", "currency"), rows)
