"""The pages for 400, 403, 404, 405 and 500: what is wrong and where to go. Named in fleet/urls.py and the settings."""

import re

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string

_MISSING = re.compile(r"No (\w+) matches the given query\.")  # django.shortcuts.get_object_or_404


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, 400, "This address cannot be understood", str(exception))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, 403, "You may not do this", str(exception) or "Your account does not have the role for it.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _page(request, 403, "This form is out of date", "Go back, reload the page and send it again.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The view's own words where it says what is missing; a path that no view has is named."""
    words = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    if missing := _MISSING.fullmatch(words):
        words = f"There is no {_spaced(missing[1])} at {request.path}; it may have been removed."
    return _page(request, 404, "There is nothing here", words or f"There is no page at {request.path}.")


def _spaced(name: str) -> str:
    """Return a model's name as words: "ReferenceJob" → "reference job"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def wrong_method(request: HttpRequest, answer: HttpResponseBase) -> HttpResponse:
    """Return the page for an address that only takes what a form sends, opened by itself; by WrongMethodMiddleware."""
    page = _page(
        request, 405, "This address takes a form", "Open the page on which the form stands, and send it there."
    )
    page.headers["Allow"] = answer.headers["Allow"]
    return page


def failed(request: HttpRequest) -> HttpResponse:
    """Without context and database: one of them may be what failed."""
    return HttpResponse(render_to_string("fleet/500.html"), status=500)


def _page(request: HttpRequest, status: int, title: str, words: str) -> HttpResponse:
    return render(request, "fleet/error.html", {"title": title, "words": words}, status=status)
