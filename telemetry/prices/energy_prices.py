"""Setting what a kWh costs and emits, field by field: what may be set, what the environment fixes, what is refused and why.

Called by the settings page; energy_rates.py says what holds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.environment import tariff
from telemetry.models import EnergyPrice

_BOUNDS = {"price_per_kwh": (0.0, 1e6), "grams_co2_per_kwh": (0.0, 1e5), "pue": (1.0, 10.0)}
_LONGEST = {"currency": 12, "bands": 2000}
_VARIABLES = {
    "price_per_kwh": "STEPWATT_PRICE_PER_KWH",
    "currency": "STEPWATT_CURRENCY",
    "grams_co2_per_kwh": "STEPWATT_GRAMS_CO2_PER_KWH",
    "pue": "STEPWATT_PUE",
    "bands": "STEPWATT_TARIFF",
}
FIELDS = tuple(_VARIABLES)


class PricesInvalid(Exception):
    """Nothing was set; `reasons` says why, by field."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it stands: its text, and the variable that fixes it, "" where it may be set here."""

    name: str
    text: str
    variable: str


def fields() -> dict[str, Field]:
    """Return each field by name. Price and bands are one thing: a price of the environment leaves no bands of the form."""
    stored, fixed = EnergyPrice.objects.first() or EnergyPrice(), _fixed()
    return {
        name: Field(name, fixed[name] if name in fixed else _text(getattr(stored, name)), _variable(name, fixed))
        for name in FIELDS
    }


def set_prices(texts: Mapping[str, str], actor: Actor) -> bool:
    """Set what the environment does not fix, empty texts to nothing; False where nothing changed. Raises PricesInvalid."""
    wanted = _read({name: texts.get(name, "").strip() for name in FIELDS if name not in _fixed()})
    with transaction.atomic():
        stored, _ = EnergyPrice.objects.select_for_update().get_or_create(pk=1)
        changed = {name: value for name, value in wanted.items() if getattr(stored, name) != value}
        if changed:
            EnergyPrice.objects.filter(pk=1).update(**changed)
            audit.record(actor.name, "energy-price.set", "", changed, actor.address)
    return bool(changed)


def _fixed() -> dict[str, str]:
    """Return the text of each field that the environment fixes."""
    set_, found = settings.STEPWATT_TARIFF, dict[str, str]()
    if set_ is not None:
        found["price_per_kwh"], found["bands"] = _text(set_.base_price), settings.STEPWATT_TARIFF_TEXT
    if settings.STEPWATT_CURRENCY:
        found["currency"] = settings.STEPWATT_CURRENCY
    if settings.STEPWATT_GRAMS_CO2_PER_KWH is not None:
        found["grams_co2_per_kwh"] = _text(settings.STEPWATT_GRAMS_CO2_PER_KWH)
    if settings.STEPWATT_PUE is not None:
        found["pue"] = _text(settings.STEPWATT_PUE)
    return found


def _variable(name: str, fixed: Mapping[str, str]) -> str:
    if name not in fixed:
        return ""
    return _VARIABLES["price_per_kwh"] if name == "bands" and not fixed[name] else _VARIABLES[name]


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.15g}"


def _read(texts: Mapping[str, str]) -> dict[str, float | str | None]:
    """Return the values of the fields. Raises PricesInvalid with the reason of each that cannot be read."""
    values, reasons = dict[str, float | str | None](), dict[str, str]()
    for name, text in texts.items():
        try:
            values[name] = _number(name, text) if name in _BOUNDS else _words(name, text)
        except ValueError as error:
            reasons[name] = str(error)
    price, bands = values.get("price_per_kwh"), values.get("bands")
    if isinstance(bands, str) and bands:
        if price is None and "price_per_kwh" not in reasons:
            reasons["price_per_kwh"] = "a price is needed, too: it holds where no band does"
        try:
            tariff.of_text(0.0, bands)
        except ValueError as error:
            reasons["bands"] = str(error)
    if reasons:
        raise PricesInvalid(reasons)
    return values


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    low, high = _BOUNDS[name]
    example = max(low, 0.25)
    if "_" in text or not text.isascii():  # Python's float takes 1_000, and the digits of other scripts
        raise ValueError(f"expected a number such as {example:g}, found {text!r}")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number such as {example:g}, found {text!r}") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"expected {low:g} to {high:,.0f}, found {text}")
    return value


def _words(name: str, text: str) -> str:
    if len(text) > _LONGEST[name]:
        raise ValueError(f"expected {_LONGEST[name]} characters at most")
    if not text.isprintable():
        raise ValueError("expected letters, figures and signs in one line")
    return text
