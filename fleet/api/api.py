"""The HTTP API as a whole: its routers by name, and one error shape for every answer. Called by fleet/urls.py.

The endpoints themselves are in the upper packages' api/, but for joining (join.py).
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from fleet.access.auth import require_role_of_machine
from fleet.api.access import VIEWER
from fleet.models import Role
from fleet.web.api_errors import ApiError, error_response, unauthenticated

logger = logging.getLogger(__name__)
View = Callable[..., HttpResponseBase]


class Api(NinjaAPI):
    """django-ninja with the project's errors for what ninja answers outside its exception handlers."""

    @property
    def urls(self) -> tuple[list[URLResolver | URLPattern], str, str]:
        patterns, app_name, namespace = super().urls
        for pattern in patterns:
            if isinstance(pattern, URLPattern):
                pattern.callback = _with_our_errors(pattern.callback)
        return [*patterns, re_path("", _with_our_errors(_unknown_path))], app_name, namespace


def _with_our_errors(view: View) -> View:
    """Turn Django's pages for 404 and 405 into the API's errors; sign-in and CSRF are checked by each operation."""

    @csrf_exempt
    @login_not_required
    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            return error_response(404, "not_found", f"there is nothing at {request.path}")
        if response.status_code == 405:
            allowed = response.headers["Allow"]
            refusal = error_response(405, "method_not_allowed", f"{request.path} takes {allowed}, not {request.method}")
            refusal.headers["Allow"] = allowed
            return refusal
        return response

    return answer


def _unknown_path(request: HttpRequest) -> HttpResponseBase:
    raise Http404


def _known_parameters_only(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse query parameters that the operation does not have: a misspelt filter must not answer for everything."""
    models = operation._ninja_operation.models  # type: ignore[attr-defined]  # noqa: SLF001 — set by ninja, as a decorator's way in
    known = {
        name for model in models if model.__ninja_param_source__ == "query" for name in model.__ninja_flatten_map__
    }

    @wraps(operation)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        for name in request.GET:
            if name not in known:
                expected = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                raise ApiError(
                    400, "unknown_parameter", f"{name} is not a parameter of {request.path}; {expected}", name
                )
        return operation(request, *args, **kwargs)

    return checked


api = Api(
    title="Stepwatt",
    version="1",
    description='Errors are `{"error": {"code", "message", "field"?}}`. Times are UTC; units are base units, named.',
    docs_url=None,  # ninja's page loads its scripts from another origin
    docs_decorator=require_role_of_machine(Role.VIEWER),
    urls_namespace="api",
    auth=VIEWER,
)
api.add_decorator(_known_parameters_only)


@api.exception_handler(ApiError)
def _refused(request: HttpRequest, error: ApiError) -> HttpResponse:
    return error.response


@api.exception_handler(AuthenticationError)
def _not_signed_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return unauthenticated().response


@api.exception_handler(ValidationError)
def _not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Answer the first error. Its place is (source, parameter) or (source, ninja's own name, parameter, …)."""
    first = error.errors[0]
    _, *where = first["loc"]
    names = [str(part) for part in where[1:] or where if not isinstance(part, int)]
    message = str(first["msg"]).removeprefix("Value error, ")
    return error_response(400, "invalid", message, ".".join(names))


@api.exception_handler(HttpError)
def _unreadable(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Ninja raises this of itself only for a body that is no JSON."""
    return error_response(error.status_code, "invalid", "the request's body is not valid JSON", "body")


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return error_response(413, "too_large", "the request's body is too large")


@api.exception_handler(UnicodeEncodeError)
def _half_a_character(request: HttpRequest, error: UnicodeEncodeError) -> HttpResponse:
    """JSON may spell a half of a surrogate pair, which no database keeps."""
    return error_response(
        400, "invalid", "the request holds half a character: a surrogate without its other half", "body"
    )


@api.exception_handler(Exception)
def _failed(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return error_response(500, "internal_error", "the server failed to answer; its log says why")


api.add_router("", "fleet.api.join.router", tags=["fleet"])
api.add_router("", "telemetry.api.prometheus.router", tags=["telemetry"])
api.add_router("", "telemetry.api.router.router", tags=["telemetry"])
api.add_router("", "training.api.jobs.router", tags=["training"])
api.add_router("", "training.api.runs.router", tags=["training"])
api.add_router("", "training.api.run_energy.router", tags=["training"])
