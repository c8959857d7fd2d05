"""The first page: headline figures, host map, trends, attention. One view answers as page and as its live fragment."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page, require_safe
from django_htmx.http import HttpResponseClientRefresh

from fleet import units
from fleet.pages import timerange
from fleet.web.shared_answer import shared
from telemetry.accounts.account import Account, Scope
from telemetry.accounts.fleet import look
from telemetry.accounts.today import Today, today
from telemetry.charts import figures
from telemetry.events import attention
from telemetry.health import Health
from telemetry.newest import day_before, glance, queries
from telemetry.newest.glance import Glance
from telemetry.newest.headlines import Headline, arrow, headlines
from telemetry.prices.energy_rates import Rates
from telemetry.series import trends
from telemetry.views.fleet_map import of_request
from telemetry.views.host import arrays_now

MAX_STACKED_GROUPS = 6
SHOWN = 8
_KEPT_SECONDS = 30  # accounts of a day change little in it, and many look at once
_MARKS = {"crit": Health.CRIT, "warn": Health.WARN, "stale": Health.SILENT}


@require_safe
@cache_control(private=True, no_cache=True)
@conditional_page
def fleet(request: HttpRequest) -> HttpResponse:
    answer = _fleet(request)
    patch_vary_headers(answer, ["HX-Request"])  # the page and its fragment have one address
    return answer


def _fleet(request: HttpRequest) -> HttpResponse:
    htmx = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    if htmx and not htmx.target:
        return _fragment(request)
    found = of_request(request)
    if not found.has_given:
        return _waiting(request)
    if htmx:
        return HttpResponseClientRefresh()  # the first sample is here: the whole page takes the waiting one's place
    cluster = request.GET.get("cluster")
    return render(request, "telemetry/fleet.html", _newest(request, found) | _charts(request, found, cluster))


@shared(seconds=1)
def _fragment(request: HttpRequest) -> HttpResponse:
    """Return the live part of the page, which says the same to everybody."""
    found = of_request(request)
    return render(request, "telemetry/_fleet.html", _newest(request, found)) if found.has_given else _waiting(request)


def _newest(request: HttpRequest, found: Glance) -> dict[str, Any]:
    cluster = request.GET.get("cluster")
    lines = attention.listed(None) if cluster is None else attention.of_cluster(cluster)
    return {
        "glance": found,
        "headlines": [each.within(cluster) for each in headlines(found, day_before.known(cluster))],
        "attention": lines[:SHOWN],
        "n_attention": len(lines),
        "counts": {mark: found.count(health) for mark, health in _MARKS.items()},
        "path": request.get_full_path(),
        "cluster": cluster,
    }


@require_safe
@shared(seconds=2)
def agents(request: HttpRequest) -> HttpResponse:
    """The count of agents at the foot of the navigation, and that of critical alerts beside Events."""
    return render(request, "telemetry/_agents.html")


@require_safe
def energy(request: HttpRequest) -> HttpResponse:
    """The tile of today's energy; accounted anew twice a minute at most, and with it how the fleet stands to the day before."""
    cluster, rates = request.GET.get("cluster"), Rates.in_force()
    key = f"energy-tile-{sha256(repr((cluster, rates)).encode()).hexdigest()}"
    tile = cache.get(key)
    if tile is None:
        now, seen = timezone.now(), look()
        is_mixed = bool(of_request(request).n_apart)
        day_before.measure(cluster, int(now.timestamp() * 1000), seen if is_mixed else None)
        tile = _energy(today(now, rates, cluster, seen), rates)
        cache.set(key, tile, _KEPT_SECONDS)
    return render(request, "telemetry/_energy_tile.html", {"headlines": [tile.within(cluster)]})


def _energy(found: Today, rates: Rates) -> Headline:
    grown = None if found.growth is None else found.growth * 100
    words = [*_price(found.account, rates.currency), arrow(grown, "%")]
    words = list(filter(None, words)) or ["set a price per kWh to see its cost"]
    words += filter(None, [found.account.unread])
    return Headline(
        label="Energy today",
        value=found.account.joules,
        unit="joules",
        note=" · ".join(words),
        href="/power/",
        why_unknown=f"no energy since midnight ({rates.zone}) is known",
        series="s2",
        trend=found.trend,
    )


def _price(account: Account, currency: str) -> Iterator[str]:
    """Yield what the energy cost, and its CO₂, where a price of either is known."""
    if account.cost is not None:
        yield str(units.quantity(account.cost, currency))
    if account.grams_co2 is not None:
        yield f"{units.quantity(account.grams_co2, 'grams')} CO₂"
    if Scope.NODE in account.priced_by and (account.cost, account.grams_co2) != (None, None):
        yield "by hosts' meters"  # which show more than the devices' energy above


def _waiting(request: HttpRequest) -> HttpResponse:
    """Before the first sample; the page asks again by itself and is replaced by the real one."""
    is_fragment = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    template = "telemetry/_waiting.html" if is_fragment else "telemetry/waiting.html"
    return render(request, template, {"hosts": queries.fleet_state(timezone.now()).hosts})


def power_groups(since_ms: int) -> list[str]:
    """Return the clusters by which power is stacked, of a time that began then."""
    return shown(trends.clusters(since_ms))


def shown(clusters: list[str]) -> list[str]:
    """Return these clusters; one group for the whole fleet where they are too many to tell apart."""
    return clusters if len(clusters) <= MAX_STACKED_GROUPS else [""]


def _counted_clusters(found: Glance, since_ms: int) -> list[str]:
    """Return what trends.clusters() does: a CPU host beside GPU hosts has no part in the stack."""
    here = {found.hosts[at].cluster for at in found.host[found.counted].tolist()}
    return sorted(here | trends.clusters_left(since_ms))


def _charts(request: HttpRequest, found: Glance, cluster: str | None) -> dict[str, Any]:
    window = timerange.of_query(request.GET, found.now)
    groups = shown(_counted_clusters(found, window.since_ms)) if cluster is None else [cluster]
    names = ["fleet"] if cluster is None and groups == [""] else [group or "no cluster" for group in groups]
    drawn = found.column("power_draw_watts")
    gives_power = not drawn.size or bool((drawn == drawn).any())  # noqa: PLR0124  NaN is not itself
    asked = {"range": window.key, **({} if cluster is None else {"cluster": cluster})}
    arrays = f"{reverse('fleet-arrays')}?{urlencode(asked)}"
    everything = found if cluster is None else glance.recent(timezone.now())
    return {
        "range": window,
        "arrays": arrays,
        "arrays_now": arrays_now(request, arrays),
        "utilisation": _utilisation_figure(are_several=found.n_counted != 1),
        "power": _power_figure(tuple(names)) if gives_power else None,
        "power_absent": "" if gives_power else found.why_absent("power_draw_watts"),
        "clusters": everything.clusters,
    }


@lru_cache(maxsize=2)
def _utilisation_figure(*, are_several: bool) -> dict[str, Any]:
    """Return what plotly takes as long to make as all else of the page."""
    return figures.as_json(figures.across_devices("ratio", are_several=are_several, painter="uplot"))


@lru_cache(maxsize=16)
def _power_figure(names: tuple[str, ...]) -> dict[str, Any]:
    return figures.as_json(figures.stacked("watts", names, painter="uplot"))
