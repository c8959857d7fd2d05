"""One host: facts, its devices, their charts on one time axis. Answers as page and as its live fragment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet import units
from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Device, Host, Origin, Role
from fleet.pages import timerange
from fleet.pages.timerange import TimeRange
from fleet.web.csv_answer import asked_table
from telemetry import catalog
from telemetry.catalog import AbsentReason
from telemetry.charts import figures
from telemetry.charts.figures import Reference
from telemetry.events import attention, event_log
from telemetry.events.event_log import Question
from telemetry.health import Health, is_read
from telemetry.newest import fleet_state, queries
from telemetry.newest.fleet_state import DeviceState, FleetState, HostState
from telemetry.newest.headlines import has_sms
from telemetry.orders import driver
from telemetry.views import host_panels, table_files
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

N_EVENTS = 6
_HOUR_MS = 3_600_000
_FOR_EVER = {AbsentReason.NOT_SUPPORTED, AbsentReason.NO_PERMISSION}
_SOFTWARE = {"driver": "Driver", "cuda": "CUDA", "kernel": "Kernel"}  # what stands at the top
_SPELLED = {
    "cuda_runtime": "CUDA runtime", "cudnn": "cuDNN", "jax": "JAX", "nccl": "NCCL", "os": "OS", "python": "Python",
    "tensorflow": "TensorFlow", "tensorrt": "TensorRT", "torch": "PyTorch", **_SOFTWARE,
}  # fmt: skip


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
    found, now = _host(name), timezone.now()
    state = queries.host_state(found, now)
    if (file := asked_table(request.GET, _files(state))) is not None:
        return file
    chosen = _chosen(state, request.GET.get("device", ""))
    context = _followed(request, state, chosen, now)
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_host.html", context)
    still = {
        "topology": host_panels.topology(state),
        "inventory": sorted((_SPELLED.get(name, name), version) for name, version in found.software.items()),
        "asks": request.GET.get("confirm", ""),
        "driver_minutes": driver.MINUTES,
        "driver_most_minutes": driver.MOST_MINUTES,
    }
    return render(request, "telemetry/host.html", context | still | _charts(request, state, chosen))


def _followed(request: HttpRequest, state: HostState, chosen: DeviceState | None, now: datetime) -> dict[str, object]:
    """Return what the page's live fragment shows."""
    found = state.host
    return {
        "state": state,
        "cards": state.wholes or state.devices,
        "device_words": device_words(state),
        "power_watts": sum(state.known_power_watts),
        "software": {label: found.software[name] for name, label in _SOFTWARE.items() if name in found.software},
        "chosen": chosen,
        "attention": attention.of_state(FleetState(now, [state])),
        "users": host_panels.users(state),
        "why_no_users": host_panels.why_no_users(state),
        "node_rows": host_panels.node_rows(state),
        "events": event_log.newest(Question(host=found), N_EVENTS),
        "events_query": urlencode({"host": found.name}),
        "is_operator": has_role(request, Role.OPERATOR),
        "can_be_asked": driver.can_be_asked(found) and state.health is not Health.SILENT,
        "is_released": host_panels.is_released(state),
    }


def _files(state: HostState) -> Mapping[str, Callable[[], HttpResponse]]:
    name = state.host.name
    return {
        "users": lambda: table_files.users(name, host_panels.users(state)),
        "parts": lambda: table_files.parts(name, state.parts),
        "topology": lambda: table_files.topology(name, host_panels.topology(state)),
    }


@require_safe
def agent(request: HttpRequest, name: str) -> HttpResponse:
    """What the host's agent costs, over the last minutes."""
    found, now = _host(name), timezone.now()
    return render(request, "telemetry/_agent.html", host_panels.agent_cost(queries.host_state(found, now), now))


@require_role(Role.OPERATOR)
@require_POST
def order_driver(request: HttpRequest, name: str) -> HttpResponse:
    """Ask the host's agent to let go of the driver or to take it up again; the page asked before."""
    found = _host(name)
    try:
        action, minutes = driver.Action(request.POST.get("action", "")), int(request.POST.get("minutes", ""))
    except ValueError as error:
        raise BadRequest("action, minutes: expected release or resume, and a whole number of minutes") from error
    try:
        driver.order(found, action, minutes, actor_of(request), timezone.now())
    except driver.OrderRefused as error:
        messages.error(request, f"Nothing was sent: {error}.")
    else:
        asked = (
            f"let go of the driver for {minutes} min" if action is driver.Action.RELEASE else "take up the driver again"
        )
        messages.success(request, f"The agent of {found.name} was asked to {asked}. Its answer comes as an event.")
    return redirect("host", name=found.name)


def _host(name: str) -> Host:
    found = Host.objects.filter(name=name).prefetch_related("devices").first()
    if found is None:
        raise Http404(f"There is no host named {name}.")
    return found


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
            _figure(state, chosen, metric, is_last=metric == offered[-1]) if metric in offered else None,
            why_absent(state.counted, metric),
        )
        for metric in METRICS
    ]
    wanted = {"range": window.key, "metric": offered, "device": chosen.device.uuid if chosen else ""}
    arrays = f"{reverse('host-arrays', args=[state.host.name])}?{urlencode(wanted, doseq=True)}"
    now = arrays_now(request, arrays)
    own = {"range": window, "charts": charts, "arrays": arrays, "arrays_now": now}
    return own | {"marks": marks_of(state.host), "recorded": recorded(request, state.host, window)}


def recorded(request: HttpRequest, host: Host, window: TimeRange) -> str:
    """Return the page's query with the last hour of a recording that ends before the window; "" of other hosts."""
    if host.origin != Origin.IMPORTED or host.last_seen_at is None:
        return ""
    end = int(host.last_seen_at.timestamp() * 1000) + 1
    if end > window.start_ms:
        return ""
    asked = request.GET.copy()
    asked["from"], asked["to"] = str(end - _HOUR_MS), str(end)
    return asked.urlencode()


def arrays_now(request: HttpRequest, arrays: str) -> str:
    """Return the address that static/js/chart.js will ask first, so that the browser asks before it has read the script."""
    carried = [(name, request.GET[name]) for name in ("from", "to", "points") if name in request.GET]
    return f"{arrays}&{urlencode(carried)}" if carried else arrays


def marks_of(host: Host, device: Device | None = None) -> str:
    """Return the addresses that tell what happened, for the charts: here, and the reference jobs of the training app."""
    asked = urlencode({"host": host.name} | ({"device": device.uuid} if device else {}))
    return f"{reverse('marks')}?{asked} /reference/marks/?{asked}"


def metric_label(metric: str, devices: list[DeviceState]) -> str:
    """Return what the metric is called on these devices: a CPU has no streaming multiprocessors."""
    is_core_clock = metric == "sm_clock_hertz" and not has_sms(devices)
    return "Core clock" if is_core_clock else catalog.BY_NAME[metric].label


def why_absent(devices: list[DeviceState], metric: str) -> str:
    """Return why no device gives a metric; "" where one does, or may have given it before and has a past to draw."""
    if any(metric in d.values or _may_have_given(d, metric) for d in devices):
        return ""
    return devices[0].why_absent(metric) if devices else "no device found"


def _may_have_given(state: DeviceState, metric: str) -> bool:
    """Tell whether a reading is only missing for a time: lost, released and hanging devices have a past, too."""
    if state.health is Health.SILENT:
        return True
    reason = state.absent.get(metric)
    return not is_read(state.values) if reason is None else reason not in _FOR_EVER


def _figure(state: HostState, chosen: DeviceState | None, metric: str, *, is_last: bool) -> Any:
    limits, noun = references(state.counted, metric), fleet_state.noun(state.counted)
    if len(state.counted) == 1:
        return _described(metric, 0, noun, state.counted[0].device.title, limits, is_last=is_last)
    n_peers = len(state.counted) - (chosen is not None)
    return _described(metric, n_peers, noun, chosen.device.title if chosen else "", limits, is_last=is_last)


@lru_cache(maxsize=256)
def _described(
    metric: str, n_peers: int, noun: str, title: str, limits: tuple[Reference, ...], *, is_last: bool
) -> dict[str, Any]:  # fmt: skip
    """Return what plotly takes longer to make than all else of the page."""
    unit = catalog.BY_NAME[metric].unit
    options = {
        "from_zero": figures.starts_at_zero(metric),
        "is_stacked": True,
        "shows_ticks": is_last,
        "references": limits,
        "painter": "uplot",
    }
    if not n_peers:
        return figures.as_json(figures.mean_with_band(unit, title, **options))
    return figures.as_json(figures.peers(unit, n_peers, noun, title, **options))


def references(devices: list[DeviceState], metric: str) -> tuple[Reference, ...]:
    """Return the limit of a metric, where all devices that report have the same."""
    limit, words = LIMITS.get(metric, ("", ""))
    values = {d.values.get(limit) for d in devices if is_read(d.values)}
    value = values.pop() if len(values) == 1 else None
    return () if value is None else (Reference(value, f"{words} {units.quantity(value, catalog.BY_NAME[limit].unit)}"),)
