"""The first page: headline figures, host map, trends, attention. One view answers as page and as its live fragment."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from fleet import timerange
from telemetry import figures, queries
from telemetry.headlines import headlines
from telemetry.health import Health
from telemetry.queries import FleetState

MAX_STACKED_GROUPS = 6


@require_safe
def fleet(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    state = queries.fleet_state(now)
    if not any(device.at for host in state.hosts for device in host.devices):
        return _waiting(request, state)
    attention = queries.attention(state)
    context = {
        "state": state,
        "headlines": headlines(state),
        "attention": attention[:8],
        "n_attention": len(attention),
        "counts": {mark: state.count(health) for mark, health in _MARKS.items()},
    }
    htmx = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    if htmx and htmx.target == "waiting":
        return (
            HttpResponseClientRefresh()
        )  # the first sample is here: the whole page takes the place of the waiting one
    if htmx:
        return render(request, "telemetry/_fleet.html", context)
    return render(request, "telemetry/fleet.html", context | _charts(request, state))


_MARKS = {"crit": Health.CRIT, "warn": Health.WARN, "stale": Health.SILENT}


@require_safe
def agents(request: HttpRequest) -> HttpResponse:
    """The count of agents at the foot of the navigation, and that of critical alerts beside Events."""
    return render(request, "telemetry/_agents.html")


def _waiting(request: HttpRequest, state: FleetState) -> HttpResponse:
    """Before the first sample; the page asks again by itself and is replaced by the real one."""
    is_fragment = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    template = "telemetry/_waiting.html" if is_fragment else "telemetry/waiting.html"
    return render(request, template, {"hosts": state.hosts})


def power_groups(state: FleetState) -> list[str]:
    """Return the clusters by which power is stacked; one group for the whole fleet where they are too many to tell apart."""
    clusters = sorted({d.device.host.cluster for d in state.counted})
    return clusters if len(clusters) <= MAX_STACKED_GROUPS else [""]


def _charts(request: HttpRequest, state: FleetState) -> dict[str, object]:
    groups = power_groups(state)
    names = ["fleet"] if groups == [""] else [group or "no cluster" for group in groups]
    reporting = state.reporting
    gives_power = not reporting or any("power_draw_watts" in d.values for d in reporting)
    return {
        "range": timerange.of_query(request.GET, state.now),
        "utilisation": figures.as_json(figures.mean_with_band("ratio", "mean")),
        "power": figures.as_json(figures.stacked("watts", names)) if gives_power else None,
        "power_absent": "" if gives_power else reporting[0].why_absent("power_draw_watts"),
    }
