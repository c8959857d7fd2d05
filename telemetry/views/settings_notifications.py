"""Where alerts are told, for admins: targets with their last delivery, made, tried out and deleted; silences that hold."""

from collections.abc import Mapping

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role, Severity
from fleet.web.csv_answer import asked_table
from telemetry.models import NotificationTarget, TargetKind
from telemetry.notify import silences, targets
from telemetry.notify.send import SendFailed
from telemetry.views import table_files


@require_safe
def notifications(request: HttpRequest) -> HttpResponse:
    files = {"silences": lambda: table_files.silences(silences.active(timezone.now()))}
    if has_role(request, Role.ADMIN):
        files["targets"] = lambda: table_files.targets(targets.with_last())
    return asked_table(request.GET, files) or _page(request)


@require_POST
@require_role(Role.ADMIN)
def new_target(request: HttpRequest) -> HttpResponse:
    sent = {name: request.POST.get(name, "") for name in ("name", "kind", "address", "secret", "severity")}
    try:
        made = targets.create(_asked(sent), actor_of(request))
    except targets.TargetRefused as refusal:
        return _page(request, {"refusal": str(refusal), "sent": sent}, 400)
    messages.success(request, f"Alerts are told to {made.name} from now on.")
    return redirect("settings-notifications")


@require_POST
@require_role(Role.ADMIN)
def test_target(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a message without any alert, and say how that went."""
    try:
        target = targets.test(pk, actor_of(request))
    except NotificationTarget.DoesNotExist:
        raise Http404(f"There is no notification target {pk}.") from None
    except SendFailed as error:
        messages.error(request, f"The test did not arrive: the target {error}.")
    else:
        messages.success(request, f"The test arrived at {target.name}.")
    return redirect("settings-notifications")


@require_POST
@require_role(Role.ADMIN)
def delete_target(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        target = targets.delete(pk, actor_of(request))
    except NotificationTarget.DoesNotExist:
        raise Http404(f"There is no notification target {pk}.") from None
    messages.success(request, f"{target.name} is told nothing more.")
    return redirect("settings-notifications")


def _asked(sent: Mapping[str, str]) -> targets.Asked:
    try:
        kind, severity = TargetKind(sent["kind"]), Severity(sent["severity"])
    except ValueError:
        raise targets.TargetRefused("kind", "kind, severity: expected one of those that are offered") from None
    return targets.Asked(sent["name"], kind, sent["address"], sent["secret"], severity)


def _page(request: HttpRequest, more: dict[str, object] | None = None, status: int = 200) -> HttpResponse:
    context: dict[str, object] = {
        "targets": targets.with_last() if has_role(request, Role.ADMIN) else None,
        "silences": silences.active(timezone.now()),
        "is_operator": has_role(request, Role.OPERATOR),
        "kinds": TargetKind.choices,
        "severities": Severity.choices,
        "sent": {"severity": Severity.WARNING.value},
    }
    return render(request, "telemetry/settings_notifications.html", context | (more or {}), status=status)
