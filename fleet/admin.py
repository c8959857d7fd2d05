"""Django's admin for the inventory, API tokens and the audit log. Signing in is the site's own page, throttled."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from fleet.access import audit
from fleet.access.auth import actor_of
from fleet.models import ApiToken, AuditEntry, Device, Host

admin.site.site_header = admin.site.site_title = "Stepwatt"


@login_not_required
def sign_in(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """Send people to the site's own sign-in, which is throttled; the admin's own form is not."""
    if admin.site.has_permission(request):
        return redirect("admin:index")
    if request.user.is_authenticated:
        raise PermissionDenied("The admin pages are for staff.")
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))


admin.site.login = sign_in  # type: ignore[method-assign]  # the place that Django's documentation names for this


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Rows that the program writes and people only look at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ("name", "cluster", "origin", "last_seen_at")
    list_filter = ("cluster", "origin")
    search_fields = ("name",)


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("uuid", "host", "kind", "index", "model")
    list_filter = ("kind", "model")
    search_fields = ("uuid", "host__name")
    list_select_related = ("host",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "subject", "address")
    list_filter = ("action",)
    search_fields = ("actor", "subject")
    date_hierarchy = "at"


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens are made by `manage.py create_token`, which shows them once; here they are revoked."""

    list_display = ("name", "role", "created_at", "last_used_at", "revoked_at")
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.action(description="Revoke the chosen tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, tokens: Any) -> None:
        """Refuse the tokens from now on. A token revoked before keeps its time."""
        now = timezone.now()
        for token in tokens.filter(revoked_at=None):
            ApiToken.objects.filter(pk=token.pk).update(revoked_at=now)
            actor = actor_of(request)
            audit.record(actor.name, "token.revoke", token.name, {"role": token.role}, actor.address)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated and request.user.is_superuser)
