"""What energy costs and emits, and what devices cost to buy: shown to everybody, set by admins."""

from collections.abc import Mapping

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role
from telemetry.prices import device_prices, energy_prices
from telemetry.prices.device_prices import PriceInvalid
from telemetry.prices.energy_prices import Field, PricesInvalid
from telemetry.prices.energy_rates import Rates
from telemetry.views import table_files

_LABELS = {
    "price_per_kwh": ("Price per kWh", "what the supplier bills, without PUE"),
    "currency": ("Currency", "such as EUR; purchase prices are in it, too"),
    "bands": ("Other prices at some times", "time zone and bands: Europe/Berlin mon-fri 06:00-22:00 0.31, sat 08:00-12:00 0.28"),
    "grams_co2_per_kwh": ("CO₂ per kWh, grams", "what the supplier states"),
    "pue": ("PUE", "what the building's meter shows over what the hosts draw; cost and CO₂ are multiplied by it, once"),
}  # fmt: skip


@require_safe
def energy(request: HttpRequest) -> HttpResponse:
    if request.GET.get("format") == "csv":
        return table_files.device_prices(device_prices.wanted(), Rates.in_force().currency)
    return _page(request, energy_prices.fields())


@require_POST
@require_role(Role.ADMIN)
def set_rates(request: HttpRequest) -> HttpResponse:
    """Set what a kWh costs and emits; an empty field forgets what stood there."""
    sent = {name: request.POST.get(name, "") for name in energy_prices.FIELDS}
    try:
        is_changed = energy_prices.set_prices(sent, actor_of(request))
    except PricesInvalid as error:
        fields = energy_prices.fields()
        kept = {name: field if field.variable else Field(name, sent[name], "") for name, field in fields.items()}
        return _page(request, kept, error.reasons, 400)
    messages.success(request, "Prices are set: all figures follow." if is_changed else "Nothing was changed.")
    return redirect("settings-energy")


def _page(
    request: HttpRequest, fields: Mapping[str, Field], reasons: Mapping[str, str] | None = None, status: int = 200
) -> HttpResponse:
    context = {
        "fields": [(field, *_LABELS[name], (reasons or {}).get(name, "")) for name, field in fields.items()],
        "currency": fields["currency"].text,
        "wanted": device_prices.wanted(),
        "may_change": has_role(request, Role.ADMIN),
    }
    return render(request, "telemetry/settings_energy.html", context, status=status)


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
