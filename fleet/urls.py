"""The root of all addresses; the upper apps' are included by name."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from fleet.api.api import api
from fleet.views import access
from fleet.views.hosts import add_host, remove_host
from fleet.views.login import LoginView
from fleet.views.probes import healthz, readyz
from fleet.views.stylesheet import css

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("static/css/stepwatt-<str:digest>.css", css, name="stylesheet"),
    path("healthz", healthz),
    path("readyz", readyz),
    path("api/v1/", api.urls),
    path("hosts/add/", add_host, name="add-host"),
    path("hosts/<str:name>/remove/", remove_host, name="remove-host"),
    path("settings/access/", access.access, name="access"),
    path("settings/access/tokens/", access.new_token, name="token-new"),
    path("settings/access/tokens/<int:pk>/revoke/", access.revoke_token, name="token-revoke"),
    path("settings/access/sessions/<str:digest>/end/", access.end_session, name="session-end"),
    path("", include("telemetry.urls")),
    path("", include("training.urls")),
]
handler400 = "fleet.views.errors.bad_request"
handler403 = "fleet.views.errors.forbidden"
handler404 = "fleet.views.errors.not_found"
handler500 = "fleet.views.errors.failed"
