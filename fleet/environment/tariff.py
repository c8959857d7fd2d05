"""What a kilowatt-hour costs, by the time of day: `STEPWATT_PRICE_PER_KWH`, and `STEPWATT_TARIFF` for the times that differ.

Read by the settings file; the energy accounts ask for prices. Imports nothing of Django.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fleet.environment.env import Environment, EnvironmentInvalid

QUARTER_MS, _MINUTE_MS = 900_000, 60_000
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

    @property
    def grain_ms(self) -> int:
        """Return the longest time that bands begin and end on multiples of: offsets of time zones are whole quarters."""
        edges = (edge for band in self.bands for edge in (band.start_minute, band.end_minute))
        return _MINUTE_MS if any(edge % 15 for edge in edges) else QUARTER_MS

    def changes_within_hours(self, start_ms: int, end_ms: int) -> bool:
        """Tell whether a price may change within an hour of UTC that the span touches: bands do, or the time zone is off."""
        if any(edge % 60 for band in self.bands for edge in (band.start_minute, band.end_minute)):
            return True
        return bool(self.bands) and not has_whole_hours(self.zone, start_ms, end_ms)

    def price_at(self, at_ms: int) -> float:
        """Return the price per kWh at `at_ms`, UTC milliseconds."""
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        found = (
            band.price for band in self.bands if day in band.days and band.start_minute <= minute < band.end_minute
        )
        return next(found, self.base_price)

    def price_of_bucket(self, start_ms: int, step_ms: int) -> float:
        """Return the mean price over a bucket."""
        parts = list(self.parts(start_ms, start_ms + max(step_ms, 1)))
        if len({price for _, price in parts}) == 1:
            return parts[0][1]
        return sum(length * price for length, price in parts) / sum(length for length, _ in parts)

    def parts(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, float]]:
        """Yield how long in ms and at which price, for the parts of the time in order; the price changes in none."""
        if not self.bands:
            yield end_ms - start_ms, self.base_price
            return
        grain_ms, at = self.grain_ms, start_ms
        while at < end_ms:
            until = min((at // grain_ms + 1) * grain_ms, end_ms)
            yield until - at, self.price_at(at)
            at = until


def has_whole_hours(zone: ZoneInfo, start_ms: int, end_ms: int) -> bool:
    """Tell whether hours of the zone begin with hours of UTC, all through the span: looked at week by week, and at its end."""
    at, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, max(start_ms, end_ms)))
    moments = [end]
    while at < end:
        moments.append(at)
        at += timedelta(days=7)
    return not any((moment.astimezone(zone).utcoffset() or timedelta()) % timedelta(hours=1) for moment in moments)


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
