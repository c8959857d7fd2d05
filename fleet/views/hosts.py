"""Adding a host (the command is shown once) and removing one: for admins. Called by fleet/urls.py."""

import time

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from fleet.access.auth import actor_of, require_role
from fleet.inventory import removal
from fleet.joining import enrolment
from fleet.joining.enrolment import HostRefused
from fleet.joining.join_command import NoAddress, join_command
from fleet.models import Host, Role

_PATIENCE_SECONDS = 5.0  # for what a removed host measured; the rest of it goes with the upkeep


@require_http_methods(["GET", "HEAD", "POST"])
@require_role(Role.ADMIN)
@never_cache
def add_host(request: HttpRequest) -> HttpResponseBase:
    if request.method != "POST":
        return _form(request, {"name": request.GET.get("name", "")})
    sent = {field: request.POST.get(field, "").strip() for field in ("name", "cluster", "labels")}
    try:
        labels = _labels(sent["labels"])
        with transaction.atomic():
            cluster = sent["cluster"] or None  # an empty field of a host that exists leaves it as it is
            host, token = enrolment.add_host(sent["name"], cluster, labels, actor_of(request), timezone.now())
            command = join_command(token)
    except HostRefused as refusal:
        return _form(request, sent, {refusal.field: str(refusal)}, 400)
    except NoAddress as error:
        return _form(request, sent, {"address": str(error)}, 409)
    return render(request, "fleet/host_added.html", {"host": host, "command": command})


@require_POST
@require_role(Role.ADMIN)
def remove_host(request: HttpRequest, name: str) -> HttpResponseBase:
    host = Host.objects.filter(name=name).first()
    if host is None:
        raise Http404(f"There is no host named {name}.")
    removal.remove_host(host, actor_of(request), timezone.now(), time.monotonic() + _PATIENCE_SECONDS)
    messages.success(request, f"{name} was removed.")
    return redirect("hosts")


def _form(
    request: HttpRequest, sent: dict[str, str], errors: dict[str, str] | None = None, status: int = 200
) -> HttpResponse:
    return render(request, "fleet/add_host.html", {"sent": sent, "errors": errors or {}}, status=status)


def _labels(text: str) -> dict[str, str] | None:
    """Return the labels of a text of `key=value` lines; None where there are none. Raises HostRefused."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, separator, value = line.partition("=")
        if not separator or not key:
            raise HostRefused("labels", f"{line!r}: expected key=value, one a line")
        found[key.strip()] = value.strip()
    return found or None
