"""The table of hosts: the host map's equal for reading, sorting and copying. Answers as page and as its rows."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from telemetry import queries
from telemetry.health import Health
from telemetry.queries import DeviceState, HostState


@dataclass(frozen=True, slots=True)
class Row:
    """One host over its counted devices; a figure is None where no device gives it."""

    state: HostState
    devices: str
    utilisation: float | None
    memory: float | None
    power: float | None
    hottest: DeviceState | None
    unknown: str

    @property
    def temperature(self) -> float | None:
        return self.hottest.values["temperature_celsius"] if self.hottest else None


@require_safe
def hosts(request: HttpRequest) -> HttpResponse:
    state = queries.fleet_state(timezone.now())
    rows = [_row(host) for host in state.hosts]
    counts = {health.value: sum(row.state.health is health for row in rows) for health in Health}
    is_fragment = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    template = "telemetry/_hosts.html" if is_fragment else "telemetry/hosts.html"
    return render(request, template, {"rows": rows, "counts": counts})


def _row(state: HostState) -> Row:
    used = [d.values["gpu_utilization_ratio"] for d in state.counted if "gpu_utilization_ratio" in d.values]
    with_memory = [d for d in state.counted if d.values.get("memory_total_bytes") and "memory_used_bytes" in d.values]
    whole = sum(d.values["memory_total_bytes"] for d in with_memory)
    warm = [d for d in state.counted if "temperature_celsius" in d.values]
    return Row(
        state=state,
        devices=device_words(state),
        utilisation=sum(used) / len(used) if used else None,
        memory=sum(d.values["memory_used_bytes"] for d in with_memory) / whole if whole else None,
        power=state.power_watts,
        hottest=max(warm, key=lambda d: d.values["temperature_celsius"], default=None),
        unknown=_why_unknown(state),
    )


def device_words(state: HostState) -> str:
    """Return what a host's counted devices are, such as "8 × NVIDIA H100 80GB HBM3"."""
    models = [d.device.model or d.device.get_kind_display() for d in state.counted]
    return ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models))


def _why_unknown(state: HostState) -> str:
    if state.health is Health.SILENT or not state.counted:
        return state.note or "no device found"
    return "a device does not give it"
