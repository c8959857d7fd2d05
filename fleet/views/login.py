"""Signing in, throttled. Called by fleet/urls.py; what may be tried is decided in fleet/access/throttle.py."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone

from fleet.access import sessions, throttle
from fleet.access.auth import client_address


class LoginForm(AuthenticationForm):
    """User name and password; each check counts as a try. The answer is the same whether the name exists or not."""

    stay_signed_in = forms.BooleanField(required=False)

    @property
    def is_throttled(self) -> bool:
        return self.has_error("__all__", "throttled")

    def clean(self) -> dict[str, Any]:
        username, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not username or not password or self.request is None:
            return self.cleaned_data  # the fields say themselves what is missing
        address = client_address(self.request)
        attempt = throttle.begin(username, address, timezone.now())
        if attempt.wait is not None:
            message = f"Too many failed tries. Try again in {_minutes(attempt.wait_minutes)}."
            raise ValidationError(message, code="throttled")
        try:
            super().clean()
        except ValidationError as error:
            raise ValidationError(_wrong(attempt.tries_left), code="invalid_login") from error
        return self.cleaned_data


class LoginView(DjangoLoginView):
    """The sign-in page; 429 where the throttle refuses."""

    template_name = "fleet/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in, in one transaction: with a fleet that sends, each more would wait once more for its turn to write."""
        with transaction.atomic():
            throttle.succeeded(form.cleaned_data["username"], client_address(self.request))
            response = super().form_valid(form)
            sessions.note(self.request)
        if not form.cleaned_data["stay_signed_in"]:
            self.request.session.set_expiry(0)  # ends with the browser
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_invalid(form)
        if isinstance(form, LoginForm) and form.is_throttled:
            response.status_code = 429
        return response


def _wrong(tries_left: int) -> str:
    left = "1 try left" if tries_left == 1 else f"{tries_left} tries left"
    return f"User name or password is wrong. {left}."


def _minutes(minutes: int) -> str:
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
