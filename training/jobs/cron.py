"""When a cron expression is due: minute, hour, day of month, month and day of week, in UTC, of which all must fit."""

import re
from datetime import datetime

from celery.schedules import ParseException, crontab

_FIELDS = 5
# Celery does not know 7, a second name of day 0: from a Sunday to the next is the whole week; after a slash it is a number.
_WHOLE_WEEK = re.compile(r"(?<![\w/-])(0|sun\w*)-7(?!\d)", re.IGNORECASE)
_SUNDAY = re.compile(r"(?<![\d/])7(?!\d)")


class CronInvalid(ValueError):
    """It is no cron expression; the text says why."""


def due_at(cron: str, after: datetime) -> datetime:
    """Return the first moment after `after` (UTC) that the expression names. Raises CronInvalid."""
    parts = cron.split()
    if len(parts) != _FIELDS:
        raise CronInvalid(f"{cron!r}: expected minute, hour, day of month, month and day of week")
    minute, hour, day, month = parts[:4]
    weekday = _SUNDAY.sub("0", _WHOLE_WEEK.sub(r"\1-6", parts[4]))
    try:
        found = crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, nowfun=lambda: after)
        start, delta, _ = found.remaining_delta(after)
        moment: datetime = start + delta
    # RuntimeError: a day that never comes, such as 30 February.
    except (ParseException, ValueError, RuntimeError) as error:
        raise CronInvalid(f"{cron!r}: {error}") from error
    return moment
