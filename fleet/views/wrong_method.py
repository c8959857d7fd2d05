"""A page, not an empty answer, for whoever opens the address of a form's target. Named in the settings as middleware."""

from http import HTTPStatus

from django.http import HttpRequest
from django.http.response import HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from fleet.views.errors import wrong_method


class WrongMethodMiddleware(MiddlewareMixin):
    """Fills the body that Django leaves empty; the API's own refusals have one."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        is_empty = isinstance(response, HttpResponse) and not response.content
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED and is_empty and request.method == "GET":
            return wrong_method(request, response)
        return response
