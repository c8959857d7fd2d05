"""Addresses with a NUL character are refused: PostgreSQL could not even look for one. Named in the settings as middleware."""

from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from fleet.api_errors import error_response

NUL = "\0"
_API = "/api/"


class NulMiddleware(MiddlewareMixin):
    """Answers 400 to a NUL in the path or in a parameter, in the API's own shape where it is asked."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        field = _field(request)
        if field is None:
            return None
        words = f"{field or 'the path'} holds a NUL character"
        if request.path.startswith(_API):
            return error_response(400, "invalid", words, field)
        raise BadRequest(words)


def _field(request: HttpRequest) -> str | None:
    """Return the parameter at fault, "" for the path, None where there is none."""
    if NUL in request.path:
        return ""
    at_fault = (name for name, values in request.GET.lists() if NUL in name or any(NUL in value for value in values))
    found = next(at_fault, None)
    return None if found is None else found.replace(NUL, "")
