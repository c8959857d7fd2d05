"""Requests with a NUL character are refused: PostgreSQL could neither look for one nor keep it. A middleware of the settings."""

import re
from collections.abc import Iterable

from django.core.exceptions import BadRequest, RequestDataTooBig
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from fleet.web.api_errors import error_response

NUL = "\0"
_API = "/api/"
_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escape, not a backslash that is one itself and then u0000
_PATH, _BODY = "the path", "the body"


class NulMiddleware(MiddlewareMixin):
    """Answers 400 to a NUL in the path, in a parameter or in the body, in the API's own shape where it is asked."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        place = _place(request)
        if place is None:
            return None
        words = f"{place} holds a NUL character"
        if request.path.startswith(_API):
            return error_response(400, "invalid", words, "" if place in {_PATH, _BODY} else place)
        raise BadRequest(words)


def _place(request: HttpRequest) -> str | None:
    """Return what holds one, a parameter or field by its name; None where nothing does."""
    if NUL in request.path:
        return _PATH
    if request.path.startswith(_API):
        return _named(request.GET.lists()) or (_BODY if _IN_JSON.search(_body(request)) else None)
    return _named([*request.GET.lists(), *request.POST.lists()])


def _body(request: HttpRequest) -> bytes:
    """Return the body of what somebody's token or session asks.

    What anybody may send has limits of its own before it is read; one that cannot be read is for its endpoint to answer.
    """
    if getattr(request, "api_token", None) is None and not request.user.is_authenticated:
        return b""
    try:
        return request.body
    except (RequestDataTooBig, ValueError):  # ValueError: its length is no number
        return b""


def _named(lists: Iterable[tuple[str, list[str]]]) -> str | None:
    found = next((name for name, values in lists if NUL in name or any(NUL in value for value in values)), None)
    return None if found is None else found.replace(NUL, "") or "a parameter"
