"""What energy costs and emits, as the server's settings say it, and what devices cost to buy, as admins say it here."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from fleet.auth import actor_of, has_role, require_role
from fleet.models import Role
from telemetry import device_prices
from telemetry.device_prices import PriceInvalid


@require_safe
def energy(request: HttpRequest) -> HttpResponse:
    context = {
        "tariff": settings.STEPWATT_TARIFF,
        "currency": settings.STEPWATT_CURRENCY,
        "grams_co2_per_kwh": settings.STEPWATT_GRAMS_CO2_PER_KWH,
        "pue": settings.STEPWATT_PUE,
        "wanted": device_prices.wanted(),
        "may_change": has_role(request, Role.ADMIN),
    }
    return render(request, "telemetry/settings_energy.html", context)


@require_POST
@require_role(Role.ADMIN)
def set_price(request: HttpRequest) -> HttpResponse:
    """Set the price of a device model; all three fields empty: forget it."""
    model = request.POST.get("model", "")
    texts = [request.POST.get(name, "").strip() for name in ("price", "years", "used_percent")]
    try:
        if not any(texts):
            is_changed = device_prices.forget(model, actor_of(request))
            messages.success(request, f"The price of {model} is forgotten." if is_changed else "Nothing was changed.")
        else:
            price, years, percent = map(_number, texts)
            device_prices.set_price(model, price, years, percent / 100, actor_of(request))
            messages.success(request, f"The price of {model} is set.")
    except PriceInvalid as error:
        messages.error(request, f"Nothing was changed: {error}.")
    return redirect("settings-energy")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PriceInvalid(f"price, years and share of time at work are all needed; {text!r} is no number") from None
