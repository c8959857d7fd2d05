"""GET /metrics: the exposition for Prometheus, of the whole fleet or of one host.

Checks the reader itself: a bearer token or a session will do, and nothing is needed where
`STEPWATT_METRICS_ANONYMOUS` says so. Refusals are JSON, as in the API.
"""

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from fleet.api_errors import ApiError, invalid
from fleet.auth import check_role
from fleet.models import Host, Role
from telemetry import exposition, queries
from telemetry.exposition import Names
from telemetry.queries import FleetState
from telemetry.textformat import OPENMETRICS, TEXT, render

_OPENMETRICS_TYPE, _OPENMETRICS_VERSION = "application/openmetrics-text", "1.0.0"


@login_not_required
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    try:
        if not settings.STEPWATT_METRICS_ANONYMOUS:
            check_role(request, Role.VIEWER)
        names, host = _read_query(request)
    except ApiError as error:
        return error.response
    now = timezone.now()
    state = queries.fleet_state(now) if host is None else FleetState(now, [queries.host_state(host, now)])
    content_type = _content_type(request)
    body = render(exposition.families(state, names), openmetrics=content_type == OPENMETRICS)
    return HttpResponse(body, content_type=content_type, headers={"Vary": "Accept", "Cache-Control": "no-store"})


def _content_type(request: HttpRequest) -> str:
    """Return the format that the Accept header prefers; text where it says neither.

    Django's own choice compares all parameters, and scrapers send some that do not matter here (charset, escaping).
    """
    for accepted in request.accepted_types:
        if f"{accepted.main_type}/{accepted.sub_type}" == _OPENMETRICS_TYPE:
            if accepted.params.get("version", _OPENMETRICS_VERSION) == _OPENMETRICS_VERSION:
                return OPENMETRICS
        elif accepted.main_type in {"text", "*"}:
            return TEXT
    return TEXT


def _read_query(request: HttpRequest) -> tuple[list[Names], Host | None]:
    """Return the namings and the host that are asked for; None is the whole fleet. Raises ApiError."""
    for field, values in request.GET.lists():
        if field not in {"names", "host"}:
            message = f"{field} is not a parameter of /metrics; it has names and host"
            raise ApiError(400, "unknown_parameter", message, field)
        if len(values) > 1:
            raise invalid(field, f"{field}: stands more than once")
    wanted = request.GET.get("names")
    if wanted is not None and wanted not in list(Names):
        raise invalid("names", f"names: expected {' or '.join(Names)}, found {wanted!r}")
    return list(Names) if wanted is None else [Names(wanted)], _host(request.GET.get("host"))


def _host(name: str | None) -> Host | None:
    if name is None:
        return None
    try:
        return Host.objects.get(name=name)
    except Host.DoesNotExist:
        raise ApiError(404, "not_found", f"host: there is no host {name!r}", "host") from None
