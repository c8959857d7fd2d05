"""The power page: what the fleet, or a cluster, draws now, its energy and cost over a time, its power by group as chart and CSV.

The other panels (power_panels.py) are fetched by the page: one that fails does not take the rest.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import units
from fleet.inventory import clusters
from fleet.pages import timerange
from fleet.pages.timerange import TimeRange
from fleet.web.csv_answer import csv_answer
from telemetry.accounts import power_groups, power_report
from telemetry.accounts.account import Account
from telemetry.accounts.growth import growth
from telemetry.accounts.power_groups import OTHERS
from telemetry.charts import figures, traces
from telemetry.charts.figures import Reference
from telemetry.newest import glance
from telemetry.newest.glance import Glance
from telemetry.newest.headlines import Headline, drawn
from telemetry.prices.energy_rates import Rates
from telemetry.series import trends
from telemetry.series.trends import Trend
from telemetry.store.read import column
from telemetry.store.samples import Floats
from telemetry.views.fleet_map import part_of

POINTS = 241
_ASKS = "/settings/energy/"
COST_ESTIMATED = "shared out by time, as the price changes within what is still stored"


@require_safe
def power(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    window, by = window_of(request.GET, now), chart_by_of(request.GET)
    whole, cluster = glance.recent(now), request.GET.get("cluster")
    newest = part_of(whole, request)
    budget = power_report.budget_watts(cluster)
    rates = Rates.in_force()
    total = power_report.energy(window, now, rates, cluster=cluster).total
    before = power_report.energy_before(window, now, rates, cluster)
    context = {
        "tiles": [
            _now(newest, budget).within(cluster),
            _energy(total, before, window),
            _cost(total, rates),
            _co2(total, rates),
            _pue(rates),
        ],
        "window": window,
        "path": request.get_full_path(),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_power_tiles.html", context)
    names = tuple(map(power_groups.named, power_groups.stacked(power_groups.members(by, cluster, window.since_ms))))
    still = {
        "by": by,
        "offered": power_groups.offered(cluster),
        "figure": _figure(names, budget),
        "days": power_report.DAYS,
        "noun": newest.noun,
        "clusters": whole.clusters,
    }
    return render(request, "telemetry/power.html", context | still)


@lru_cache(maxsize=16)
def _figure(names: tuple[str, ...], budget: float | None) -> dict[str, Any]:
    """Return what plotly takes longer to make than the rest of the page."""
    references = [Reference(budget, f"budget {units.quantity(budget, 'watts')}")] if budget else []
    return figures.as_json(figures.stacked("watts", names, references=references, painter="uplot"))


@require_safe
def arrays(request: HttpRequest) -> HttpResponse:
    """The values of the chart; what they cost does not grow with the fleet, but for a cluster's groups (trends.trend)."""
    by, cluster = chart_by_of(request.GET), clusters.of_query(request.GET)
    window = window_of(request.GET, timezone.now())
    trend = trends.within(cluster, "power_draw_watts", window.start_ms, window.end_ms, POINTS, by)
    every = power_groups.members(by, cluster, window.since_ms)
    columns = _columns(trend, every)
    if request.GET.get("format") == "csv":
        times = (datetime.fromtimestamp(at / 1000, UTC) for at in trend.times_ms)
        head = ["time", *(f"{power_groups.named(name)}_watts" for name in columns)]
        return csv_answer("power", head, zip(times, *columns.values(), strict=True))
    journey = traces.GROUP_JOURNEY_MS if trend.step_seconds >= 60 else traces.JOURNEY_MS
    drawn = list(columns.values())
    chart = {"traces": traces.stacked(trend.times_ms, drawn), **traces.gaps(trend.times_ms, drawn, journey)}
    answer = {"range": [window.start_ms, window.end_ms], "x": trend.times_ms, "charts": {"fig-power": chart}}
    return HttpResponse(orjson.dumps(answer), content_type="application/json")


def window_of(query: QueryDict, now: datetime) -> TimeRange:
    return timerange.of_query(query, now, timerange.OF_SECTIONS["power"])


def by_of(query: QueryDict) -> str:
    """Return by what is grouped. Raises BadRequest."""
    by = query.get("by", "cluster")
    if by not in {"cluster", "model", "host"} and not by.removeprefix("label:") != by:
        raise BadRequest("by: expected cluster, model, host or label:<key>")
    return by


def chart_by_of(query: QueryDict) -> str:
    """Hosts are too many to stack: beside their table the chart shows the clusters."""
    by = by_of(query)
    return "cluster" if by == "host" else by


def _columns(trend: Trend, every: Sequence[str]) -> Mapping[str, traces.Column]:
    """Return each group that the chart stacks with its watts per bucket."""
    shown = power_groups.stacked(list(every))
    gap: Floats = np.full(len(trend.times_ms), np.nan)
    own: dict[str, traces.Column] = {name: column(trend.total.get(name, gap)) for name in shown if name in every}
    if OTHERS in shown and OTHERS not in every:
        own[OTHERS] = column(traces.sums([column(trend.total.get(name, gap)) for name in every if name not in own]))
    return {name: own[name] for name in shown}


def _now(newest: Glance, budget: float | None) -> Headline:
    found = drawn(newest)
    about = found.of_how_many
    if found.watts is not None and budget:
        about = f"{units.quantity(found.watts / budget, 'ratio')} of the budget of {units.quantity(budget, 'watts')}"
    note = " · ".join(filter(None, (found.words, about)))
    return Headline(
        "Power now", found.watts, "watts", note, "/hosts/?sort=-power", newest.why_absent("power_draw_watts")
    )


def _energy(total: Account, before: Account, window: TimeRange) -> Headline:
    note, grown = "", growth(total, before)
    if grown is not None:
        note = f"{units.signed(grown * 100)} % on the {'time' if window.is_chosen else window.words} before"
    elif total.covered_share is not None:
        note = f"known for {units.quantity(total.covered_share, 'ratio')} of the time"
    note = " · ".join(filter(None, (note, total.unread)))
    return Headline(f"Energy, {window.label}", total.joules, "joules", note, "#groups-h", total.why_unknown)


def _cost(total: Account, rates: Rates) -> Headline:
    if rates.tariff is None:
        return Headline("Cost", None, "", "", _ASKS, "set a price per kWh")
    words = " and ".join(sorted(f"{scope.value} meters" for scope in total.priced_by))
    if total.cost_estimated_share:
        words += f" · {units.quantity(total.cost_estimated_share, 'ratio')} {COST_ESTIMATED}"
    return Headline("Cost", total.cost, rates.currency, words, _ASKS, "nothing was measured")


def _co2(total: Account, rates: Rates) -> Headline:
    grams = rates.grams_co2_per_kwh
    if grams is None:
        return Headline("CO₂", None, "", "", _ASKS, "set the grams per kWh")
    return Headline("CO₂", total.grams_co2, "grams", f"{grams:g} g/kWh", _ASKS, "nothing was measured")


def _pue(rates: Rates) -> Headline:
    note = "as set; on cost and CO₂ once"
    return Headline("PUE", rates.pue, "", note, _ASKS, "set it, if the building is metered")
