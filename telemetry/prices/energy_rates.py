"""What a kWh costs and emits: the one place that says it, of the server's environment or of what an admin set here.

A variable of the environment is fixed; where there is none, what was set under Settings holds; else it is not known.
Asked by whatever shows cost or CO₂, each time anew: a change holds at once, in every process.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from fleet.environment import tariff as tariffs
from fleet.environment.tariff import QUARTER_MS, Tariff
from telemetry.models import EnergyPrice

JOULES_PER_KWH = 3.6e6
NO_PRICE, NO_CO2 = "no price per kWh is set", "no figure for CO₂ is set"
_PRICES_KEPT, _AXES_KEPT = 20_000, 64
_UTC = ZoneInfo("UTC")

Floats = NDArray[np.float64]


class Cost(NamedTuple):
    """`estimated` is the part of the cost of buckets in which the price changes: it is shared out by their time."""

    whole: float
    estimated: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a kWh costs and emits; what is not set is None, and PUE then 1. `currency` may be "" beside a price."""

    tariff: Tariff | None
    grams_co2_per_kwh: float | None
    pue: float | None
    currency: str = ""

    @classmethod
    def in_force(cls) -> "Rates":
        """Return what holds now, in one query."""
        stored = EnergyPrice.objects.first() or EnergyPrice()
        tariff = settings.STEPWATT_TARIFF
        if tariff is None and stored.price_per_kwh is not None:
            tariff = _tariff(stored.price_per_kwh, stored.bands)
        grams, pue = settings.STEPWATT_GRAMS_CO2_PER_KWH, settings.STEPWATT_PUE
        return cls(
            tariff=tariff,
            grams_co2_per_kwh=stored.grams_co2_per_kwh if grams is None else grams,
            pue=stored.pue if pue is None else pue,
            currency=settings.STEPWATT_CURRENCY or stored.currency,
        )

    @property
    def zone(self) -> ZoneInfo:
        """Return the zone of days: the tariff's, UTC without one."""
        return self.tariff.zone if self.tariff else _UTC

    @property
    def tells(self) -> bool:
        """Tell whether anything follows from energy: a cost or CO₂."""
        return self.tariff is not None or self.grams_co2_per_kwh is not None

    def cost(self, joules: Floats, starts_ms: NDArray[np.int64], step_ms: int) -> Cost | None:
        """Return the cost of joules `(n,)` drawn in buckets that begin at `starts_ms (n,)`, PUE on top."""
        if self.tariff is None:
            return None
        each, mixed = _prices(self.tariff, starts_ms.tobytes(), step_ms)
        estimated = float(joules[mixed] @ each[mixed]) if mixed.size else 0.0
        whole = float(joules @ each)
        return Cost(*(part / JOULES_PER_KWH * (self.pue or 1.0) for part in (whole, estimated)))

    def mixed_quarters(self, start_ms: int, end_ms: int) -> list[int]:
        """Return the beginnings of the quarters of an hour, all in start ≤ time < end, within which the price changes."""
        if self.tariff is None or not self.tariff.bands or self.tariff.grain_ms >= QUARTER_MS:
            return []
        quarters = np.arange(
            -(-start_ms // QUARTER_MS) * QUARTER_MS, end_ms - QUARTER_MS + 1, QUARTER_MS, dtype=np.int64
        )
        found: list[int] = quarters[_prices(self.tariff, quarters.tobytes(), QUARTER_MS).mixed].tolist()
        return found

    def changes_within_hours(self, start_ms: int, end_ms: int) -> bool:
        return self.tariff is not None and self.tariff.changes_within_hours(start_ms, end_ms)

    def grams(self, joules: Floats) -> float | None:
        if self.grams_co2_per_kwh is None:
            return None
        return float(joules.sum()) / JOULES_PER_KWH * self.grams_co2_per_kwh * (self.pue or 1.0)


@lru_cache(maxsize=4)
def _tariff(price: float, bands: str) -> Tariff:
    return tariffs.of_text(price, bands)


class _Prices(NamedTuple):
    """Of buckets: `each (n,)`, and the places `mixed (m,)` of those in which the price changes."""

    each: Floats
    mixed: NDArray[np.int64]


@lru_cache(maxsize=_AXES_KEPT)
def _prices(tariff: Tariff, starts_ms: bytes, step_ms: int) -> _Prices:
    """Return the prices of the buckets: hosts and devices have the same ones again and again."""
    found = [_price(tariff, start, step_ms) for start in np.frombuffer(starts_ms, np.int64).tolist()]
    each = np.array([price for price, _ in found], np.float64)
    return _Prices(each, np.flatnonzero(np.array([is_mixed for _, is_mixed in found], np.bool_)))


@lru_cache(maxsize=_PRICES_KEPT)
def _price(tariff: Tariff, start_ms: int, step_ms: int) -> tuple[float, bool]:
    prices = {price for _, price in tariff.parts(start_ms, start_ms + max(step_ms, 1))}
    return tariff.price_of_bucket(start_ms, step_ms), len(prices) > 1
