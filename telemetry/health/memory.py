"""What the watch must know again after a restart: since when what is not yet an alert holds, and what counters grew by.

One row of JSON a host, and one for the fleet; a row is written only where it changed. Called by the watch alone.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import TextField
from django.db.models.functions import Cast
from pydantic_core import from_json

from telemetry.health.seen import HostSeen
from telemetry.models import HealthMemory

FLEET = "fleet"
COUNTERS = ("nvlink_errors_total", "agent_batches_dropped_total")
_HOUR_MS, _BIN_MS = 3_600_000, 300_000
_LONGEST_PAUSE = timedelta(minutes=1)  # between two passes: after a longer one, nobody was here to listen
_ROWS_AT_ONCE = 200  # a transaction of these stays short on SQLite


class Waiting(NamedTuple):
    """Since when a subject stands without a break where an alert is to be raised, or where an open one is to be cleared."""

    since_ms: int
    is_to_clear: bool


class Memory:
    """The rows as they were read, changed in place; `save` writes those that changed."""

    def __init__(self, rows: Mapping[str, dict[str, Any]]) -> None:
        self._rows = dict(rows)
        self._changed: set[str] = set()
        self._gone: set[str] = set()

    @classmethod
    def load(cls) -> "Memory":
        """Read the rows, by pydantic's reader: there are as many as hosts."""
        rows = HealthMemory.objects.annotate(text=Cast("body", TextField())).values_list("scope", "text")
        return cls({scope: from_json(text, cache_strings="keys") for scope, text in rows})

    def watched_since(self, now: datetime) -> datetime:
        """Return since when hosts are watched without a pause, and note this pass."""
        row = self._changing(FLEET)
        passed_ms, now_ms = row.get("passed_ms"), _ms(now)
        if passed_ms is None or not 0 <= now_ms - passed_ms <= _LONGEST_PAUSE.total_seconds() * 1000:
            row["watched_since_ms"] = now_ms
        row["passed_ms"] = now_ms
        return datetime.fromtimestamp(row["watched_since_ms"] / 1000, now.tzinfo)

    def waiting(self) -> Iterator[tuple[str, str, str, Waiting]]:
        """Yield (scope, rule, subject, what is waited for) of all that is under way."""
        for scope, row in self._rows.items():
            for rule, subjects in row.get("waiting", {}).items():
                for subject, waiting in subjects.items():
                    yield scope, rule, subject, Waiting(*waiting)

    def wait(self, scope: str, rule: str, subject: str, waiting: Waiting | None) -> None:
        """Keep what is waited for; None: nothing any more."""
        known = self._rows.get(scope, {}).get("waiting", {}).get(rule, {}).get(subject)
        if known == (None if waiting is None else list(waiting)):
            return
        rules = self._changing(scope).setdefault("waiting", {})
        subjects = rules.setdefault(rule, {})
        if waiting is not None:
            subjects[subject] = list(waiting)
            return
        del subjects[subject]
        if not subjects:
            del rules[rule]

    def count(self, host: HostSeen) -> None:
        """Tell the host's devices what their counters grew by within the last hour, and keep it.

        A counter that is seen for the first time has not grown; one that fell began again at 0.
        """
        now_ms, kept = _ms(host.now), self._rows.get(host.name, {}).get("counters", {})
        for device in host.devices:
            for metric in COUNTERS:
                value = device.values.get(metric)
                if value is None:
                    continue
                known = kept.get(device.uuid, {}).get(metric)
                if known == value:
                    device.grown[metric] = 0
                    continue
                count = _counted(known, value, now_ms)
                device.grown[metric] = sum(growth for _, growth in count[1]) if isinstance(count, list) else 0
                if count != known:
                    counters = self._changing(host.name).setdefault("counters", {})
                    counters.setdefault(device.uuid, {})[metric] = count

    def forget(self, scopes: set[str]) -> None:
        """Drop the rows of hosts that are gone."""
        self._gone = self._rows.keys() - scopes - {FLEET}
        for scope in self._gone:
            del self._rows[scope]

    def save(self) -> None:
        changed = [HealthMemory(scope=scope, body=self._rows[scope]) for scope in self._changed - self._gone]
        for first in range(0, len(changed), _ROWS_AT_ONCE):
            some = changed[first : first + _ROWS_AT_ONCE]
            HealthMemory.objects.bulk_create(
                some, update_conflicts=True, update_fields=["body"], unique_fields=["scope"]
            )
        if self._gone:
            HealthMemory.objects.filter(scope__in=self._gone).delete()

    def _changing(self, scope: str) -> dict[str, Any]:
        self._changed.add(scope)
        return self._rows.setdefault(scope, {})


Counted = float | list[Any]
"""What is kept of a counter: its value, with [[when, growth], …], newest last, where it grew within the last hour."""


def _counted(known: Counted | None, value: float, now_ms: int) -> Counted:
    """Return what is to be kept of a counter of which `known` was."""
    before, bins = known if isinstance(known, list) else (value if known is None else known, [])
    growth = value - before if value >= before else value
    bins = [each for each in bins if now_ms - each[0] < _HOUR_MS]
    if growth and bins and now_ms - bins[-1][0] < _BIN_MS:
        bins[-1] = [bins[-1][0], bins[-1][1] + growth]
    elif growth:
        bins.append([now_ms, growth])
    return [value, bins] if bins else value


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
