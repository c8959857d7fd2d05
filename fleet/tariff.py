"""What a kilowatt-hour costs, by the time of day: `STEPWATT_PRICE_PER_KWH`, and `STEPWATT_TARIFF` for the times that differ.

Read by the settings file; the energy accounts ask for prices. Imports nothing of Django.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fleet.env import Environment, EnvironmentInvalid

QUARTER_MS = 900_000  # prices are looked up by the quarter of an hour: no market's bands are finer
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BAND = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)\s+(\d+(?:\.\d+)?)")
FORM = 'expected a time zone and bands, such as "Europe/Berlin mon-fri 06:00-22:00 0.31, sat 08:00-12:00 0.28"'


@dataclass(frozen=True, slots=True)
class Band:
    """A price on some days of the week (0 is Monday), from `start_minute` of the day up to `end_minute`, local time."""

    days: frozenset[int]
    start_minute: int
    end_minute: int
    price: float


@dataclass(frozen=True, slots=True)
class Tariff:
    """`base_price` per kWh holds wherever no band does; the first band that fits holds."""

    base_price: float
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    bands: tuple[Band, ...] = ()

    def price_at(self, at_ms: int) -> float:
        """Return the price per kWh in the quarter of an hour that begins at `at_ms`, UTC milliseconds."""
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        found = (
            band.price for band in self.bands if day in band.days and band.start_minute <= minute < band.end_minute
        )
        return next(found, self.base_price)

    def price_of_bucket(self, start_ms: int, step_ms: int) -> float:
        """Return the mean price over a bucket, by the quarters of an hour that it has."""
        if not self.bands:
            return self.base_price
        prices = [self.price_at(at) for at in range(start_ms, start_ms + max(step_ms, 1), QUARTER_MS)]
        return sum(prices) / len(prices)


def read(env: Environment) -> Tariff | None:
    """Return the tariff of the settings, None where no price is set. Raises EnvironmentInvalid."""
    price, text = env.optional_number("STEPWATT_PRICE_PER_KWH"), env.text("STEPWATT_TARIFF")
    if not text:
        return None if price is None else Tariff(price)
    if price is None:
        raise EnvironmentInvalid("STEPWATT_TARIFF is set, STEPWATT_PRICE_PER_KWH is not: it holds where no band does")
    try:
        return of_text(price, text)
    except ValueError as error:
        raise EnvironmentInvalid(f"STEPWATT_TARIFF={text!r}: {error}") from error


def of_text(price: float, text: str) -> Tariff:
    """Return the tariff of a price and of what the text says of other times: zone and bands, or nothing. Raises ValueError."""
    zone, _, bands = text.strip().partition(" ")
    if not zone:
        return Tariff(price)
    try:
        return Tariff(price, ZoneInfo(zone), tuple(_bands(bands.split(","))))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{error}; {FORM}") from error


def _bands(texts: Iterable[str]) -> Iterable[Band]:
    for text in texts:
        found = _BAND.fullmatch(text.strip().lower())
        if not found:
            raise ValueError(f"cannot read {text.strip()!r}")
        first, last, *numbers, price = found.groups()
        hours = [int(number) for number in numbers]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if not start < end <= 1440 or hours[1] > 59 or hours[3] > 59:
            raise ValueError(f"{text.strip()!r} does not end after it begins, within a day")
        yield Band(_days(first, last), start, end, float(price))


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    if first not in _DAYS or (last or first) not in _DAYS:
        raise ValueError(f"days are {', '.join(_DAYS)}")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return frozenset(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))
