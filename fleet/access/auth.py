"""Who may do what: roles, bearer tokens, the first admin. Called by every view and API endpoint; knows nothing of them.

Users have a role through the group of its name, scripts through their API token. Of a token only the digest is stored.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache, wraps
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.deprecation import MiddlewareMixin

from fleet.access.audit import COMMAND, Actor
from fleet.models import ApiToken, Role
from fleet.web.api_errors import ApiError, unauthenticated

View = Callable[..., HttpResponseBase]
TOKEN_PREFIX = "swt_"  # noqa: S105 — not a secret: it lets scanners find tokens that were committed by mistake
FIRST_ADMIN = "admin"
_TOKEN_ACTOR = "token:"  # noqa: S105 — what the audit log calls a token is no secret
_RANK = {role: rank for rank, role in enumerate(Role)}
_USE_NOTED_EVERY = timedelta(minutes=1)  # `last_used_at` costs a write; a scrape each second need not pay it


class TokenRefused(Exception):
    """No token was made; the message says why."""


class BearerTokenMiddleware(MiddlewareMixin):
    """Sets `request.api_token`; a wrong or revoked token ends the request with 401."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Runs before CSRF's check of the view, which a token needs none of: no browser sends one by itself."""
        scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
        token = None
        if scheme.lower() == "bearer":
            token = _valid_token(_digest(raw.strip()))
            if token is None:
                return ApiError(401, "unauthenticated", "this API token is unknown or revoked").response
            _note_use(token)
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # noqa: SLF001 — Django's own switch
        request.api_token = token  # type: ignore[attr-defined]  # ours
        return None


def _valid_token(digest: str) -> ApiToken | None:
    return next(iter(ApiToken.objects.raw(_token_question(), [digest])), None)


@lru_cache(maxsize=1)
def _token_question() -> str:
    """Return the SQL for a token by digest: each request of a script asks, and to put it together took longer than to ask it."""
    question, _ = ApiToken.objects.filter(digest="", revoked_at=None).order_by().query.sql_with_params()
    return question


def api_token(request: HttpRequest) -> ApiToken | None:
    """Return the valid token that the request carries."""
    return getattr(request, "api_token", None)


def role_of(request: HttpRequest) -> Role | None:
    """Return the role of the token, else of the signed-in user (one query a request); None for anybody else."""
    if token := api_token(request):
        return Role(token.role)
    if not request.user.is_authenticated:
        return None
    if not hasattr(request, "_stepwatt_role"):
        request._stepwatt_role = _user_role(request.user)  # type: ignore[attr-defined]  # noqa: SLF001 — ours
    role: Role = request._stepwatt_role  # type: ignore[attr-defined]  # noqa: SLF001 — ours
    return role


def has_role(request: HttpRequest, role: Role) -> bool:
    """Tell whether the request may do what `role` may; each role includes the one before it."""
    own = role_of(request)
    return own is not None and _RANK[own] >= _RANK[role]


def check_role(request: HttpRequest, role: Role) -> None:
    """Raise ApiError (401, 403) where the request may not do what `role` may."""
    if role_of(request) is None:
        raise unauthenticated()
    if not has_role(request, role):
        raise ApiError(403, "forbidden", f"this needs the role {role.label}")


def require_role(role: Role) -> Callable[[View], View]:
    """Guard a page: anonymous people sign in first, a lesser role is answered with the 403 page."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not has_role(request, role):
                raise PermissionDenied(f"This needs the role {role.label}.")
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def require_role_of_machine(role: Role) -> Callable[[View], View]:
    """Guard a view that programs read: a session or a token will do, and a refusal is JSON (401, 403)."""

    def decorate(view: View) -> View:
        @login_not_required
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                check_role(request, role)
            except ApiError as error:
                return error.response
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def actor_of(request: HttpRequest) -> Actor:
    """Return who asks, as the audit log writes it."""
    token = api_token(request)
    return Actor(f"{_TOKEN_ACTOR}{token.name}" if token else request.user.get_username(), client_address(request))


def role_of_actor(name: str) -> Role | None:
    """Return the role that somebody whom the audit log calls `name` has now; None where she has no access any more.

    Whoever has a shell on the server may do all.
    """
    if name.startswith(COMMAND):
        return Role.ADMIN
    if name.startswith(_TOKEN_ACTOR):
        token = ApiToken.objects.filter(name=name.removeprefix(_TOKEN_ACTOR), revoked_at=None).first()
        return Role(token.role) if token else None
    user = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: name}, is_active=True).first()
    return _user_role(user) if user else None


def client_address(request: HttpRequest) -> str | None:
    """Return where the request came from; None where a proxy said something that is no address."""
    try:
        return str(ip_address(request.META.get("REMOTE_ADDR", "")))
    except ValueError:
        return None


def create_token(name: str, role: Role) -> str:
    """Make an API token and return it: the only time that it can be seen. Raises TokenRefused."""
    raw = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(name=name, role=role, digest=_digest(raw))
    if ApiToken.objects.filter(name=name).exists():
        raise TokenRefused(f"a token {name!r} already exists, or did until it was revoked: choose another name")
    try:
        token.full_clean()
    except ValidationError as error:
        raise TokenRefused("; ".join(error.messages)) from error
    token.save()
    return raw


def create_first_admin() -> str | None:
    """Make the user `admin` and return its password; None where a superuser exists, or another process was first."""
    users = get_user_model().objects
    password = secrets.token_urlsafe(12)
    try:
        with transaction.atomic():
            if users.filter(is_superuser=True).exists():
                return None
            users.create_superuser(FIRST_ADMIN, password=password)
    except IntegrityError:
        if users.filter(is_superuser=True).exists():
            return None
        raise
    return password


def _user_role(user: Any) -> Role:
    if user.is_superuser:
        return Role.ADMIN
    groups = set(user.groups.values_list("name", flat=True))
    return next((role for role in (Role.ADMIN, Role.OPERATOR) if role in groups), Role.VIEWER)


def _digest(raw: str) -> str:
    """A token holds 256 random bits, so that one round of sha256 is enough; a password's slow hash is not needed."""
    return sha256(raw.encode()).hexdigest()


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > _USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
