"""The first settings page: how the store stands, and what its upkeep did and does next. Other parts are pages of their own."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from telemetry.store_report import report


@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    return render(request, "telemetry/settings.html", {"store": report(timezone.now())})
