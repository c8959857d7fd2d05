"""The purchase prices of device models: which are wanted, and setting them. Called by the settings and the efficiency page."""

import math
from dataclasses import dataclass

from django.db import transaction

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import ACCELERATORS, Device
from telemetry.models import DevicePrice

_BOUNDS = {"price": (0.01, 1e9), "years": (0.1, 50.0), "used_ratio": (0.01, 1.0)}
_WORDS = {"price": "price", "years": "years", "used_ratio": "share of time at work"}


class PriceInvalid(Exception):
    """Nothing was set; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device model of the inventory, how many there are, and its price; None where nobody has said one."""

    model: str
    n_devices: int
    price: DevicePrice | None


def wanted() -> list[Wanted]:
    """Return each model of accelerators, by name, in two queries."""
    counts: dict[str, int] = {}
    rows = Device.objects.filter(kind__in=ACCELERATORS, parent=None, profile="").exclude(model="").order_by("model")
    for model in rows.values_list("model", flat=True):
        counts[model] = counts.get(model, 0) + 1
    prices = {price.model: price for price in DevicePrice.objects.all()}
    return [Wanted(model, n, prices.get(model)) for model, n in counts.items()]


def set_price(model: str, price: float, years: float, used_ratio: float, actor: Actor) -> None:
    """Set what a device of a model cost, over how many years and what share of them at work. Raises PriceInvalid."""
    values = {"price": price, "years": years, "used_ratio": used_ratio}
    for name, value in values.items():
        low, high = _BOUNDS[name]
        if not math.isfinite(value) or not low <= value <= high:
            raise PriceInvalid(f"{_WORDS[name]}: expected {low:g} to {high:g}, found {value:g}")
    if not Device.objects.filter(model=model).exists():
        raise PriceInvalid(f"there is no device of the model {model!r}")
    with transaction.atomic():
        DevicePrice.objects.update_or_create(model=model, defaults=values)
        audit.record(actor.name, "device-price.set", model[:200], values, actor.address)


def forget(model: str, actor: Actor) -> bool:
    """Drop the price of a model; False where none was set."""
    with transaction.atomic():
        if not DevicePrice.objects.filter(model=model).delete()[0]:
            return False
        audit.record(actor.name, "device-price.forget", model[:200], {}, actor.address)
    return True
