"""What a health rule is, as data: its words, its thresholds, and the function that looks. Pure; asks no database.

A rule raises at one point and clears at another: the values between the two change nothing, and both must hold for a time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import NamedTuple, Protocol

from fleet.models import Severity
from telemetry.health.seen import DeviceSeen, HostSeen, Subject

Limits = Mapping[str, float]
"""A rule's thresholds by name, as they hold now; one that is off is not in it."""


class Standing(Enum):
    """How a subject stands to a rule. What is unknown neither raises nor clears: it is not healthy."""

    RAISED = "raised"
    BETWEEN = "between"
    UNKNOWN = "unknown"
    CLEAR = "clear"


class Sign(NamedTuple):
    """What a rule sees of one subject: `text` says how it stands, `values` (base units, by name) prove it.

    `advice` and `severity` are given where they say more than the rule's own.
    """

    standing: Standing
    text: str = ""
    values: Mapping[str, float | str] = {}
    advice: str = ""
    severity: Severity | None = None


UNKNOWN, BETWEEN = Sign(Standing.UNKNOWN), Sign(Standing.BETWEEN)


def raised(
    text: str,
    values: Mapping[str, float | str | None] | None = None,
    advice: str = "",
    severity: Severity | None = None,
) -> Sign:
    """Return the sign that raises an alert; a value that is None is left out of the evidence."""
    values = values or {}
    known = {name: value for name, value in values.items() if value is not None}
    return Sign(Standing.RAISED, text, known, advice, severity)


class Survey(Protocol):
    """A rule over many hosts at work: it is shown each host that is judged, then asked for its signs.

    A subject without a sign is clear; what cannot be told must be said, by UNKNOWN.
    """

    def see(self, host: HostSeen) -> None: ...
    def signs(self) -> Iterable[tuple[Subject, Sign]]: ...


class Scope(StrEnum):
    """What a rule looks at, one by one. `look` of a device or host answers None where it is clear."""

    DEVICE = "device"
    HOST = "host"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that people may set between `low` and `high`. Where `value` is None, the rule is off until it is set.

    One that is `by_cluster` may also be set for a cluster alone, under `name:cluster` (thresholds.py).
    """

    name: str
    words: str
    unit: str
    value: float | None
    low: float
    high: float
    by_cluster: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` names it for ever, `words` for people; `looks_at` says in words what it reads; `advice` is the next action.

    It is raised when it held for `for_seconds`, and cleared when it was clear for `clear_seconds`; both are thresholds too.
    """

    name: str
    words: str
    severity: Severity
    looks_at: str
    advice: str
    look: (
        Callable[[DeviceSeen, Limits], Sign | None]
        | Callable[[HostSeen, Limits], Sign | None]
        | Callable[[Limits, datetime], Survey]
    )
    scope: Scope = Scope.DEVICE
    own_thresholds: tuple[Threshold, ...] = ()
    for_seconds: float = 0
    clear_seconds: float = 60
    thresholds: Mapping[str, Threshold] = field(init=False)

    def __post_init__(self) -> None:
        times = (
            Threshold("for_seconds", "raised after", "seconds", self.for_seconds, 0, 86_400),
            Threshold("clear_seconds", "cleared after", "seconds", self.clear_seconds, 0, 86_400),
        )
        object.__setattr__(self, "thresholds", {each.name: each for each in (*self.own_thresholds, *times)})
