"""GET /dist/: the wheels for GPU hosts and training loops, with their sha256. Open to anybody: they hold no secret."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.http import condition, require_safe

from telemetry import wheels

_TYPE = "application/octet-stream"


def _etag(request: HttpRequest, name: str) -> str | None:
    wheel = wheels.offered().get(name)
    return f'"{wheel.sha256}"' if wheel else None


@login_not_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Return lines as sha256sum writes and checks them; JSON with names and addresses where that is asked for."""
    offered = wheels.offered()
    headers = {"Cache-Control": "no-cache", "Vary": "Accept"}
    if request.accepts("application/json") and not request.accepts("text/plain"):
        items = [
            {"name": name, "sha256": wheel.sha256, "bytes": len(wheel.content), "url": request.build_absolute_uri(name)}
            for name, wheel in offered.items()
        ]
        return JsonResponse({"items": items, "count": len(items)}, headers=headers)
    lines = "".join(f"{wheel.sha256}  {name}\n" for name, wheel in offered.items())
    return HttpResponse(lines, content_type="text/plain; charset=utf-8", headers=headers)


@login_not_required
@require_safe
@condition(etag_func=_etag)
def file(request: HttpRequest, name: str) -> HttpResponseBase:
    """Return one wheel. The name is only looked up among those offered, and never becomes a path."""
    wheel = wheels.offered().get(name)
    if wheel is None:
        raise Http404(f"{name} is not offered; see /dist/")
    # Not kept without asking: another build of the same version has the same name.
    return HttpResponse(wheel.content, content_type=_TYPE, headers={"Cache-Control": "no-cache"})
