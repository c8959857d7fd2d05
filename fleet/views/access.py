"""Who may get in: API tokens (for admins) and sessions, seen and revoked. Called by fleet/urls.py."""

from collections.abc import Iterable

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from fleet.access import audit, sessions
from fleet.access.auth import TokenRefused, actor_of, create_token, has_role, require_role
from fleet.access.sessions import SignedIn
from fleet.models import ApiToken, Role
from fleet.web.csv_answer import asked_table, csv_answer


@require_safe
@never_cache
def access(request: HttpRequest) -> HttpResponseBase:
    files = {"sessions": lambda: _sessions_file(_sessions(request))}
    if has_role(request, Role.ADMIN):
        files["tokens"] = _tokens_file
    return asked_table(request.GET, files) or _page(request)


def _tokens_file() -> HttpResponse:
    rows = ((t.name, t.role, t.created_at, t.last_used_at, t.revoked_at) for t in _tokens())
    return csv_answer("tokens", ("name", "role", "created_at", "last_used_at", "revoked_at"), rows)


def _sessions_file(found: Iterable[SignedIn]) -> HttpResponse:
    rows = ((s.user, s.at, s.address, s.browser, s.ends_at, s.is_this) for s in found)
    return csv_answer("sessions", ("user", "signed_in_at", "from", "browser", "ends_at", "is_this_browser"), rows)


def _tokens() -> QuerySet[ApiToken]:
    return ApiToken.objects.order_by("revoked_at", "name")


def _sessions(request: HttpRequest) -> list[SignedIn]:
    of_user = None if has_role(request, Role.ADMIN) else request.user.pk
    return sessions.signed_in(request.session, timezone.now(), of_user=of_user)


@require_POST
@require_role(Role.ADMIN)
@never_cache
def new_token(request: HttpRequest) -> HttpResponseBase:
    """Make a token; the answer is the only page that ever shows it."""
    name, role = request.POST.get("name", "").strip(), request.POST.get("role", "")
    actor = actor_of(request)
    try:
        with transaction.atomic():
            raw = create_token(name, _role(role))
            audit.record(actor.name, "token.create", name, {"role": role}, actor.address)
    except TokenRefused as refusal:
        return _page(request, {"refusal": str(refusal), "sent_name": name}, 400)
    return _page(request, {"new_token": raw, "new_name": name})


@require_POST
@require_role(Role.ADMIN)
def revoke_token(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Whoever uses the token is refused from the next request on."""
    token, actor = get_object_or_404(ApiToken, pk=pk), actor_of(request)
    with transaction.atomic():
        if ApiToken.objects.filter(pk=pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(actor.name, "token.revoke", token.name, {}, actor.address)
            messages.success(request, f"{token.name} is revoked.")
        else:
            messages.error(request, f"Nothing was changed: {token.name} was revoked before.")
    return redirect("access")


@require_POST
def end_session(request: HttpRequest, digest: str) -> HttpResponseBase:
    """Sign a browser out: one's own, or for admins anybody's."""
    actor, is_admin = actor_of(request), has_role(request, Role.ADMIN)
    with transaction.atomic():
        user = sessions.end(digest, timezone.now(), of_user=None if is_admin else request.user.pk)
        if user is None:
            raise Http404("There is no such session; it may have ended.")
        audit.record(actor.name, "session.end", user, {}, actor.address)
    messages.success(request, f"A browser of {user} was signed out.")
    return redirect("access")


def _role(name: str) -> Role:
    if name not in Role.values:
        raise TokenRefused(f"role: expected one of {', '.join(Role.values)}")
    return Role(name)


def _page(request: HttpRequest, more: dict[str, object] | None = None, status: int = 200) -> HttpResponse:
    is_admin = has_role(request, Role.ADMIN)
    context: dict[str, object] = {
        "tokens": _tokens() if is_admin else None,
        "roles": Role.choices,
        "sessions": _sessions(request),
    }
    return render(request, "fleet/access.html", context | (more or {}), status=status)
