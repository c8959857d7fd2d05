"""What operators do from the events page: acknowledge, resolve and silence alerts. Each leads back to the list it came from."""

from datetime import datetime
from typing import Protocol

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from fleet.access.audit import Actor
from fleet.access.auth import actor_of, require_role
from fleet.models import Event, Role
from telemetry.health import alerts
from telemetry.models import Silence
from telemetry.notify import silences
from telemetry.views.events import address_of, fragment


class Deed(Protocol):
    def __call__(self, pk: int, actor: Actor, now: datetime) -> Event: ...


@require_role(Role.OPERATOR)
@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that somebody knows of an alert; answers with the list as it was asked for, or leads back to it."""
    return _done(request, pk, alerts.acknowledge)


@require_role(Role.OPERATOR)
@require_POST
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    """End an alert by hand; where its rule still finds what it tells of, it is raised anew."""
    return _done(request, pk, alerts.resolve)


def _done(request: HttpRequest, pk: int, deed: Deed) -> HttpResponse:
    try:
        deed(pk, actor_of(request), timezone.now())
    except Event.DoesNotExist:
        raise Http404(f"There is no event {pk}.") from None
    except (alerts.NotAcknowledged, alerts.NotResolved) as error:
        messages.error(request, f"Nothing was changed: {error}.")
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return fragment(request)
    return redirect(address_of(request))


@require_role(Role.OPERATOR)
@require_POST
def silence(request: HttpRequest) -> HttpResponse:
    """Tell nobody of matching alerts for a while; what is empty matches everything."""
    sent = {name: request.POST.get(name, "").strip() for name in ("rule", "host", "label", "comment", "minutes")}
    minutes = int(sent["minutes"]) if sent["minutes"].isdecimal() and len(sent["minutes"]) < 9 else 0
    asked = silences.Asked(sent["comment"], minutes, sent["rule"], sent["host"], sent["label"])
    try:
        made = silences.create(asked, actor_of(request), timezone.now())
    except silences.SilenceRefused as refusal:
        messages.error(request, f"Nothing is silenced: {refusal}.")
    else:
        messages.success(request, f"Silenced until {made.ends_at:%Y-%m-%d %H:%M} UTC: {made.comment}.")
    return redirect(address_of(request))


@require_role(Role.OPERATOR)
@require_POST
def end_silence(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Silence, pk=pk)
    if silences.end(found, actor_of(request), timezone.now()):
        messages.success(request, "The silence has ended: what it covered is told now.")
    else:
        messages.error(request, "Nothing was changed: the silence had ended already.")
    return redirect(address_of(request))
