"""One device: facts, every reading with the reason where it is absent, charts. Answers as page and as its live fragment."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet import timerange
from fleet.models import Device
from telemetry import catalog, figures, queries
from telemetry.catalog import Kind, Metric
from telemetry.health import clock_event_names
from telemetry.queries import DeviceState
from telemetry.views.host import METRICS, Chart, metric_label, references

_NO_CHART = {
    "memory_total_bytes",
    "memory_free_bytes",
    "memory_reserved_bytes",
    "power_limit_watts",
    "sm_clock_max_hertz",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of the table: a value in base units with its words, or the reason why there is none."""

    metric: Metric
    label: str
    value: float | None
    words: str
    absent: str


@require_safe
def device(request: HttpRequest, uuid: str) -> HttpResponse:
    found = Device.objects.select_related("host").filter(uuid=uuid).first()
    if found is None:
        raise Http404(f"There is no device {uuid}.")
    now = timezone.now()
    whole = queries.host_state(found.host, now)
    state = next(d for d in whole.devices if d.device.pk == found.pk)
    context = {
        "state": state,
        "siblings": [d.device for d in whole.devices],
        "readings": sorted((_reading(state, metric) for metric in catalog.METRICS), key=lambda r: bool(r.absent)),
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "telemetry/_device.html", context)
    return render(request, "telemetry/device.html", context | _charts(request, state))


def _reading(state: DeviceState, metric: Metric) -> Reading:
    value, label = state.values.get(metric.name), metric_label(metric.name, [state])
    if value is None:
        return Reading(metric, label, None, "", state.why_absent(metric.name))
    words = ""
    if metric.name == "clock_event_reasons":
        words = ", ".join(clock_event_names(int(value))) or "none"
    return Reading(metric, label, value, words, "")


def _charts(request: HttpRequest, state: DeviceState) -> dict[str, object]:
    window = timerange.of_query(request.GET, timezone.now())
    gauges = [m.name for m in catalog.METRICS if m.kind is Kind.GAUGE and m.name not in _NO_CHART]
    # A silent device says nothing of what it offers: the metrics that most devices have are asked for.
    shown = [name for name in gauges if name in state.values] or list(METRICS)
    charts = [
        Chart(
            catalog.BY_NAME[name],
            metric_label(name, [state]),
            figures.as_json(
                figures.mean_with_band(
                    catalog.BY_NAME[name].unit,
                    "mean",
                    from_zero=figures.starts_at_zero(name),
                    is_stacked=True,
                    shows_ticks=name == shown[-1],
                    references=references([state], name),
                )
            ),
            "",
        )
        for name in shown
    ]
    wanted = urlencode({"range": window.key, "metric": shown}, doseq=True)
    arrays = f"{reverse('device-arrays', args=[state.device.uuid])}?{wanted}"
    return {"range": window, "charts": charts, "arrays": arrays}
