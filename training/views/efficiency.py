"""The efficiency page: who does how much with what, which devices do most with a joule and with money, hosts at both ends.

Each panel is fetched by itself: one that fails or takes long does not take the page.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.inventory import clusters
from fleet.models import Host, Origin
from fleet.pages import sorting, timerange
from fleet.web.csv_answer import csv_answer
from telemetry.newest import queries
from telemetry.newest.fleet_state import HostState
from telemetry.prices.energy_rates import Rates
from training.efficiency.hardware import hardware as compare
from training.efficiency.work import Work, by_group, by_run
from training.hooks import host_columns
from training.judging import results
from training.judging.results import Standing
from training.runs import lives
from training.runs.queries import short_name
from training.runs.summaries import MOST_STEPS

_VIEWS = {"group": "Groups", "run": "Runs"}
_AT_EACH_END, ROWS_A_PAGE = 4, 50
_KEYS: Mapping[str, Callable[[Work], Any]] = {
    "name": lambda work: work.key,
    "mfu": lambda work: work.done.mfu_ratio,
    "goodput": lambda work: work.done.goodput_ratio,
    "busy": lambda work: work.done.busy_ratio,
    "idle": lambda work: work.done.idle_energy_ratio,
    "hours": lambda work: work.done.device_hours,
    "energy": lambda work: work.done.joules,
    "cost": lambda work: work.done.cost,
}
_CSV = (
    "runs", "mfu_ratio", "goodput_ratio", "busy_ratio", "idle_energy_ratio", "device_hours", "joules", "covered_ratio", "cost",
    "work_per_joule", "work_per_joule_unit", "mfu_part_seconds", "why_unknown",
)  # fmt: skip


@require_safe
def efficiency(request: HttpRequest) -> HttpResponse:
    window = timerange.of_query(request.GET, timezone.now(), timerange.OF_SECTIONS["efficiency"])
    there = clusters.every()
    clusters.of_query(request.GET, there)
    context = {"views": _VIEWS, "by": _by(request), "window": window, "clusters": there}
    return render(request, "training/efficiency.html", context)


@require_safe
def work(request: HttpRequest) -> HttpResponse:
    """Rank groups or runs by what they did in the window."""
    now, by = timezone.now(), _by(request)
    window = timerange.of_query(request.GET, now, timerange.OF_SECTIONS["efficiency"])
    order = sorting.of_query(request.GET, _KEYS, "-hours")
    rates = Rates.in_force()
    report = by_run(window.start_ms, window.end_ms, now, rates, request.GET.get("cluster"))
    report = by_group(report) if by == "group" else report
    found = order.arranged(report.works, _KEYS[order.key])
    if request.GET.get("format") == "csv":
        return csv_answer(f"efficiency-by-{by}", (by, *_CSV), map(_csv_row, found))
    page = Paginator(found, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "rows": _with_trends(page) if by == "run" else page.object_list,
        "page": page,
        "report": report,
        "by": by,
        "window": window,
        "sorting": order,
        "most_steps": MOST_STEPS,
        "has_price": rates.tariff is not None,
        "currency": rates.currency,
    }
    return render(request, "training/_efficiency_work.html", context)


def _with_trends(works: Iterable[Work]) -> list[Work]:
    """Return the rows of a page with the trends that were kept: those of all runs would be too many to read."""
    shown = list(works)
    kept = lives.trends([work.run.pk for work in shown if not work.done.trend])
    return [
        replace(work, done=replace(work.done, trend=work.done.trend or kept.get(work.run.pk, ()))) for work in shown
    ]


def _by(request: HttpRequest) -> str:
    by = request.GET.get("by", "group")
    if by not in _VIEWS:
        raise BadRequest(f"by: expected one of {', '.join(_VIEWS)}")
    return by


def _csv_row(row: Work) -> tuple[object, ...]:
    done = row.done
    return (
        row.key, len(row.runs), done.mfu_ratio, done.goodput_ratio, done.busy_ratio, done.idle_energy_ratio, done.device_hours,
        done.joules, done.covered_ratio, done.cost, done.per_joule, done.per_joule_unit, done.part_seconds, done.why,
    )  # fmt: skip


@require_safe
def hardware(request: HttpRequest) -> HttpResponse:
    """Compare device models by the reference jobs that ran on them."""
    rates = Rates.in_force()
    found = compare(rates, request.GET.get("workload", ""), request.GET.get("cluster"))
    if request.GET.get("format") == "csv":
        columns = ("device_model", "jobs", "samples_per_joule", "samples_per_money", "currency")
        rows = ((m.full_name, m.n, m.samples_per_joule, m.samples_per_money, rates.currency) for m in found.models)
        return csv_answer("efficiency-of-devices", columns, rows)
    by_money = found.by_money()
    context = {
        "found": found,
        "by_money": by_money,
        "best_per_joule": max((model.samples_per_joule for model in found.models), default=0),
        "best_per_money": max((model.samples_per_money or 0 for model in by_money), default=0),
        "unpriced": [model for model in found.models if model.samples_per_money is None],
        "has_price": rates.tariff is not None,
        "currency": rates.currency or "unit of money",
    }
    return render(request, "training/_efficiency_hardware.html", context)


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host with its newest deviation from the baseline, and how it stands now."""

    state: HostState
    cell: Standing
    job: str
    job_url: str

    @property
    def model(self) -> str:
        return short_name(self.state.counted[0].device.model) if self.state.counted else ""

    @property
    def tensor(self) -> float | None:
        values = [d.values["tensor_active_ratio"] for d in self.state.counted if "tensor_active_ratio" in d.values]
        return sum(values) / len(values) if values else None


@require_safe
def hosts(request: HttpRequest) -> HttpResponse:
    """Show the hosts furthest above and below the baseline of their model."""
    cluster = request.GET.get("cluster")
    where = {} if cluster is None else {"cluster": cluster}
    ids = list(Host.objects.filter(origin=Origin.REAL, **where).values_list("pk", flat=True))
    cells = results.slowest_by_host(ids)
    ordered = sorted(cells, key=lambda pk: -cells[pk].deviation)
    shown = ordered if len(ordered) <= 2 * _AT_EACH_END else [*ordered[:_AT_EACH_END], *ordered[-_AT_EACH_END:]]
    if request.GET.get("format") == "csv":
        names = Host.objects.in_bulk(ordered)
        rows = ((names[pk].name, cells[pk].workload, cells[pk].deviation, cells[pk].n) for pk in ordered)
        return csv_answer("hosts-beside-baseline", ("host", "workload", "deviation", "n"), rows)
    found = Host.objects.in_bulk(shown)
    chosen = [found[pk] for pk in shown]
    own = host_columns.columns(shown, with_baselines=False)
    states = queries.host_states(chosen, timezone.now()) if chosen else []
    rows_ = [
        HostRow(state, cells[state.host.pk], own[state.host.pk].job, own[state.host.pk].job_url) for state in states
    ]
    context = {"rows": rows_, "n_hosts": len(ids), "n_judged": len(ordered), "at_each_end": _AT_EACH_END}
    return render(request, "training/_efficiency_hosts.html", context)
