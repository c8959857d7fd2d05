"""The one error shape of the HTTP API: `{"error": {"code", "message", "field"?}}`.

Raised by the API's endpoints and answered by fleet/api/api.py; the bearer-token middleware answers with it directly.
"""

from django.http import JsonResponse


class ApiError(Exception):
    """Ends a request with `status`. `field` names the parameter at fault, "" where it is none in particular."""

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field

    @property
    def response(self) -> JsonResponse:
        return error_response(self.status, self.code, self.message, self.field)


def error_response(status: int, code: str, message: str, field: str = "") -> JsonResponse:
    """Return the answer; a 401 says how to sign in, as HTTP asks for."""
    error = {"code": code, "message": message} | ({"field": field} if field else {})
    headers = {"WWW-Authenticate": 'Bearer realm="stepwatt"'} if status == 401 else None
    return JsonResponse({"error": error}, status=status, headers=headers)


def unauthenticated() -> ApiError:
    return ApiError(401, "unauthenticated", "sign in, or send an API token as `Authorization: Bearer …`")


def invalid(field: str, message: str) -> ApiError:
    return ApiError(400, "invalid", message, field)
