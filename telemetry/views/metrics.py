"""GET /metrics: the exposition for Prometheus, of the whole fleet or of one host.

Checks the reader itself: a bearer token or a session will do, and nothing is needed where
`STEPWATT_METRICS_ANONYMOUS` says so. Refusals are JSON, as in the API. The body is made in the renderer's thread; this
request's own only waits for it.
"""

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from fleet.access.auth import check_role
from fleet.models import Role
from fleet.web.api_errors import ApiError, invalid
from fleet.web.compression import takes_gzip
from telemetry.exposition import renderer
from telemetry.exposition.own_names import Names
from telemetry.exposition.scrape import UnknownHost, Wanted
from telemetry.exposition.textformat import OPENMETRICS, TEXT

_OPENMETRICS_TYPE, _OPENMETRICS_VERSION = "application/openmetrics-text", "1.0.0"


@login_not_required
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    try:
        if not settings.STEPWATT_METRICS_ANONYMOUS:
            check_role(request, Role.VIEWER)
        wanted = _wanted(request)
        body = renderer.of_this_process().body(wanted)
    except ApiError as error:
        return error.response
    except UnknownHost as unknown:
        return ApiError(404, "not_found", f"host: there is no host {str(unknown)!r}", "host").response
    headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
    if wanted.gzip:
        headers["Content-Encoding"] = "gzip"
    return HttpResponse(body, content_type=OPENMETRICS if wanted.openmetrics else TEXT, headers=headers)


def _wanted(request: HttpRequest) -> Wanted:
    """Return what is asked for. Raises ApiError."""
    names, host = _read_query(request)
    return Wanted(names, openmetrics=_takes_openmetrics(request), gzip=takes_gzip(request), host=host)


def _takes_openmetrics(request: HttpRequest) -> bool:
    """Tell which format the Accept header prefers; text where it says neither.

    Django's own choice compares all parameters, and scrapers send some that do not matter here (charset, escaping).
    """
    for accepted in request.accepted_types:
        if f"{accepted.main_type}/{accepted.sub_type}" == _OPENMETRICS_TYPE:
            if accepted.params.get("version", _OPENMETRICS_VERSION) == _OPENMETRICS_VERSION:
                return True
        elif accepted.main_type in {"text", "*"}:
            return False
    return False


def _read_query(request: HttpRequest) -> tuple[tuple[Names, ...], str]:
    """Return the namings and the host that are asked for; "" is the whole fleet. Raises ApiError."""
    for field, values in request.GET.lists():
        if field not in {"names", "host"}:
            message = f"{field} is not a parameter of /metrics; it has names and host"
            raise ApiError(400, "unknown_parameter", message, field)
        if len(values) > 1:
            raise invalid(field, f"{field}: stands more than once")
    names, host = request.GET.get("names"), request.GET.get("host")
    if names is not None and names not in list(Names):
        raise invalid("names", f"names: expected {' or '.join(Names)}, found {names!r}")
    if host == "":
        raise ApiError(404, "not_found", "host: there is no host ''", "host")
    return tuple(Names) if names is None else (Names(names),), host or ""
