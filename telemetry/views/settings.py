"""The first settings page: how the store stands, and what its upkeep did and does next. Other parts are pages of their own."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.web.csv_answer import asked_table
from telemetry.maintenance.store_report import report
from telemetry.views import table_files


@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    store = report(timezone.now())
    files = {
        "store": lambda: table_files.store(store),
        "upkeep": lambda: table_files.upkeep(store),
        "aside": lambda: table_files.aside(store),
        "unread": lambda: table_files.unread(store),
    }
    file = asked_table(request.GET, files)
    return render(request, "telemetry/settings.html", {"store": store}) if file is None else file
