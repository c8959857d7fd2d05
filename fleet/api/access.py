"""Who may call an API endpoint: `auth=VIEWER` or `auth=OPERATOR` on a router or operation. Called by every package's api.

A token stands for itself; a session needs a CSRF token for what changes something.
"""

from django.http import HttpRequest
from ninja.security import HttpBearer, SessionAuth
from ninja.utils import check_csrf

from fleet.access.auth import api_token, check_role
from fleet.models import Role
from fleet.web.api_errors import ApiError


class BearerToken(HttpBearer):
    """The token that fleet.access.auth.BearerTokenMiddleware has found valid."""

    def __init__(self, role: Role) -> None:
        super().__init__()
        self._role = role

    def authenticate(self, request: HttpRequest, token: str) -> bool:
        if api_token(request) is None:
            return False
        check_role(request, self._role)
        return True


class SignedIn(SessionAuth):
    """The signed-in user. Who is not signed in hears that, not of a missing CSRF token."""

    def __init__(self, role: Role) -> None:
        super().__init__(csrf=False)  # checked below, after the user
        self._role = role

    def authenticate(self, request: HttpRequest, key: str | None) -> bool:
        check_role(request, self._role)
        if check_csrf(request):
            raise ApiError(403, "csrf_failed", "send the csrftoken cookie's value in the header X-CSRFToken too")
        return True


VIEWER = [BearerToken(Role.VIEWER), SignedIn(Role.VIEWER)]
OPERATOR = [BearerToken(Role.OPERATOR), SignedIn(Role.OPERATOR)]
ADMIN = [BearerToken(Role.ADMIN), SignedIn(Role.ADMIN)]
