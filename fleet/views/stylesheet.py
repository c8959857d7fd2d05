"""The pages' one stylesheet, for ever: its address changes with it."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from fleet.pages.stylesheet import stylesheet

_FOR_EVER = "public, max-age=31536000, immutable"


@login_not_required
@require_safe
def css(request: HttpRequest, digest: str) -> HttpResponse:
    found = stylesheet()
    if digest != found.digest:
        raise Http404("This stylesheet is one of another version.")
    return HttpResponse(found.text, content_type="text/css; charset=utf-8", headers={"Cache-Control": _FOR_EVER})
