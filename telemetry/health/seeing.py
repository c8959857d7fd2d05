"""One pass of the rules over the fleet: what they saw of whom. Called by the watch; asks no database."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, cast

from fleet.turns import Turns
from telemetry.health import rules
from telemetry.health.rule import Limits, Rule, Scope, Sign, Standing, Survey
from telemetry.health.seen import HostSeen, Subject

Key = tuple[str, str]
"""(rule, subject's name)."""


Looks = Sequence[tuple[str, Callable[[Any, Limits], Sign | None], Limits]]


class Judged(Protocol):
    """A device or a host, with the name of the subject that it is."""

    @property
    def name(self) -> str: ...
    @property
    def subject(self) -> Subject: ...


class Seeing:
    """`signs` has all that is raised, and how the `tracked` keys stand otherwise, where a rule said so."""

    def __init__(self, limits: Mapping[str, Limits], tracked: Collection[Key], now: datetime) -> None:
        self.limits = limits
        self.signs: dict[Key, tuple[Subject, Sign]] = {}
        self._tracked = frozenset(tracked)
        self._tracked_subjects = frozenset(subject for _, subject in tracked)
        self._judged: set[str] = set()
        active = [(rule, limits[name]) for name, rule in rules.by_name().items() if name in limits]
        self._of_devices, self._of_hosts = _looks(active, Scope.DEVICE), _looks(active, Scope.HOST)
        self._surveys: dict[str, Survey] = {
            rule.name: rule.look(found, now) for rule, found in active if rule.scope is Scope.FLEET  # type: ignore[misc,arg-type]  # the scope says which look it is
        }  # fmt: skip

    def take(self, host: HostSeen) -> None:
        """Show the rules a host and its devices."""
        self._judge(host, self._of_hosts)
        for device in host.devices:
            self._judge(device, self._of_devices)
        for survey in self._surveys.values():
            survey.see(host)

    def _judge(self, judged: Judged, looks: Looks) -> None:
        name = judged.name
        is_tracked = name in self._tracked_subjects
        for rule, look, limits in looks:
            sign = look(judged, limits)
            if sign is not None and (is_tracked or sign.standing is Standing.RAISED):
                self.signs[rule, name] = judged.subject, sign
        self._judged.add(name)  # last: of one at which a rule failed it is not known how it stands

    def conclude(self, turns: Turns[str]) -> None:
        """Ask the rules over many hosts for what they saw."""
        for name, survey in self._surveys.items():
            with turns.of(name):
                for subject, sign in survey.signs():
                    if sign.standing is Standing.RAISED or (name, subject.name) in self._tracked:
                        self.signs[name, subject.name] = subject, sign

    def standing(self, key: Key, existing: Collection[str]) -> Standing:
        """Return how a tracked subject stands. One that exists and was not looked at is unknown; one that is gone is clear."""
        if key in self.signs:
            return self.signs[key][1].standing
        rule, subject = key
        is_place = subject.startswith(("device:", "host:"))
        if rule in self.limits and is_place and subject in existing and subject not in self._judged:
            return Standing.UNKNOWN
        return Standing.CLEAR

    def is_over(self, key: Key, existing: Collection[str]) -> str:
        """Return why an alert ends at once, without a wait; "" where it does not."""
        rule, subject = key
        if rule not in self.limits:
            return "its rule is off"
        if subject.startswith(("device:", "host:")) and subject not in existing:
            return "it is gone"
        return ""


def _looks(active: Iterable[tuple[Rule, Limits]], scope: Scope) -> Looks:
    """Return the looks of the rules of one scope, by name: they are called for each device at each pass."""
    return [(rule.name, cast("Any", rule.look), limits) for rule, limits in active if rule.scope is scope]
