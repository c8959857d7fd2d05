"""One host: facts, its devices, their charts on one time axis. Answers as page and as its live fragment."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import timerange, units
from fleet.auth import has_role
from fleet.models import Host, Role
from telemetry import catalog, figures, queries
from telemetry.figures import Reference
from telemetry.health import Health
from telemetry.queries import DeviceState, FleetState, HostState
from telemetry.views.hosts import device_words

METRICS = (
    "gpu_utilization_ratio",
    "power_draw_watts",
    "temperature_celsius",
    "sm_clock_hertz",
    "memory_used_bytes",
)
LIMITS = {
    "power_draw_watts": ("power_limit_watts", "power limit"),
    "sm_clock_hertz": ("sm_clock_max_hertz", "maximum"),
    "memory_used_bytes": ("memory_total_bytes", "installed"),
}

_SOFTWARE = {"driver": "Driver", "cuda": "CUDA", "kernel": "Kernel"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A row of the stack: a figure, or the reason why there is none."""

    metric: catalog.Metric
    label: str
    figure: dict[str, Any] | None
    absent: str

    @property
    def id(self) -> str:
        return f"fig-{self.metric.name}"


@require_safe
def host(request: HttpRequest, name: str) -> HttpResponse:
    found = Host.objects.filter(name=name).prefetch_related("devices").first()
    if found is None:
        raise Http404(f"There is no host named {name}.")
    now = timezone.now()
    state = queries.host_state(found, now)
    chosen = _chosen(state, request.GET.get("device", ""))
    context = {
        "state": state,
        "device_words": device_words(state),
        "power_watts": sum(state.known_power_watts),
        "software": {label: found.software[name] for name, label in _SOFTWARE.items() if name in found.software},
        "chosen": chosen,
        "attention": queries.attention(FleetState(now, [state])),
        "can_launch": has_role(request, Role.OPERATOR),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_host.html", context)
    return render(request, "telemetry/host.html", context | _charts(request, state, chosen))


def _chosen(state: HostState, uuid: str) -> DeviceState | None:
    """Return the device to set against its peers: the one asked for, else the gravest, else none."""
    asked = next((d for d in state.counted if d.device.uuid == uuid), None)
    return asked or next((d for level in (Health.CRIT, Health.WARN) for d in state.counted if d.health is level), None)


def _charts(request: HttpRequest, state: HostState, chosen: DeviceState | None) -> dict[str, object]:
    window = timerange.of_query(request.GET, timezone.now())
    offered = [metric for metric in METRICS if not why_absent(state.counted, metric)]
    charts = [
        Chart(
            catalog.BY_NAME[metric],
            metric_label(metric, state.counted),
            figures.as_json(_figure(state, chosen, metric, is_last=metric == offered[-1]))
            if metric in offered
            else None,
            why_absent(state.counted, metric),
        )
        for metric in METRICS
    ]
    wanted = {"range": window.key, "metric": offered, "device": chosen.device.uuid if chosen else ""}
    arrays = f"{reverse('host-arrays', args=[state.host.name])}?{urlencode(wanted, doseq=True)}"
    return {"range": window, "charts": charts, "arrays": arrays}


def metric_label(metric: str, devices: list[DeviceState]) -> str:
    """Return what the metric is called on these devices: a CPU has no streaming multiprocessors."""
    is_core_clock = metric == "sm_clock_hertz" and not any(d.device.is_accelerator for d in devices)
    return "Core clock" if is_core_clock else catalog.BY_NAME[metric].label


def why_absent(devices: list[DeviceState], metric: str) -> str:
    """Return why no device gives a metric now; "" where one does, or where a silent device may have given it before."""
    if any(metric in d.values or d.health is Health.SILENT for d in devices):
        return ""
    return devices[0].why_absent(metric) if devices else "no device found"


def _figure(state: HostState, chosen: DeviceState | None, metric: str, *, is_last: bool) -> Any:
    unit = catalog.BY_NAME[metric].unit
    options = {
        "from_zero": figures.starts_at_zero(metric),
        "is_stacked": True,
        "shows_ticks": is_last,
        "references": references(state.counted, metric),
    }
    if len(state.counted) == 1:
        return figures.mean_with_band(unit, state.counted[0].device.title, **options)
    n_peers = len(state.counted) - (chosen is not None)
    noun = "GPUs" if state.counted[0].device.is_accelerator else "CPUs"
    return figures.peers(unit, n_peers, noun, chosen.device.title if chosen else "", **options)


def references(devices: list[DeviceState], metric: str) -> list[Reference]:
    """Return the limit of a metric, where all devices that report have the same."""
    limit, words = LIMITS.get(metric, ("", ""))
    values = {d.values.get(limit) for d in devices if d.values}
    value = values.pop() if len(values) == 1 else None
    return [] if value is None else [Reference(value, f"{words} {units.quantity(value, catalog.BY_NAME[limit].unit)}")]
