"""The settings page: what is set, how the store stands, and where alerts are told."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.auth import has_role
from fleet.models import Role
from telemetry.models import NotificationTarget
from telemetry.notify import silences
from telemetry.store_report import report


@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    context = {
        "store": report(timezone.now()),
        "tariff": settings.STEPWATT_TARIFF,
        "currency": settings.STEPWATT_CURRENCY,
        "grams_co2_per_kwh": settings.STEPWATT_GRAMS_CO2_PER_KWH,
        "pue": settings.STEPWATT_PUE,
        "silences": silences.active(timezone.now()),
        "targets": _targets() if has_role(request, Role.ADMIN) else None,
    }
    return render(request, "telemetry/settings.html", context)


def _targets() -> list[dict[str, object]]:
    """Return each target with its newest delivery that was tried."""
    return [
        {"target": target, "last": target.deliveries.exclude(attempts=0).order_by("-created_at", "-pk").first()}
        for target in NotificationTarget.objects.all()
    ]
