"""The thresholds of the rules as they hold now: a rule's own, or what somebody has set. Called by the watch and the settings.

One that is set `by_cluster` is kept under `name:cluster`.
"""

import math
from collections.abc import Mapping

from django.db import transaction

from fleet.access import audit
from fleet.access.audit import Actor
from telemetry.health import rules
from telemetry.health.rule import Rule, Threshold
from telemetry.models import RuleThreshold

_LONGEST_CLUSTER = 63  # as Host.cluster


class ThresholdInvalid(Exception):
    """The value was not set; the text says why."""


def in_force() -> dict[str, dict[str, float]]:
    """Return the thresholds of each rule by name, in one query. A rule that lacks one that is needed is off: not in it."""
    set_by_people: dict[str, dict[str, float]] = {}
    for name, threshold, value in RuleThreshold.objects.values_list("rule", "name", "value"):
        set_by_people.setdefault(name, {})[threshold] = value
    found = {name: _of(rule, set_by_people.get(name, {})) for name, rule in rules.by_name().items()}
    return {name: limits for name, limits in found.items() if limits is not None}


def set_value(rule: str, name: str, value: float) -> None:
    """Set a threshold, within its bounds. Raises ThresholdInvalid."""
    threshold = _known(rule, name)
    if not math.isfinite(value) or not threshold.low <= value <= threshold.high:
        raise ThresholdInvalid(
            f"{rule} {name}: expected {threshold.low:g} to {threshold.high:g} {threshold.unit}, found {value:g}"
        )
    RuleThreshold.objects.update_or_create(rule=rule, name=name, defaults={"value": value})


def reset(rule: str, name: str) -> None:
    """Let the rule's own value hold again; without one, the rule is off. Raises ThresholdInvalid."""
    _known(rule, name)
    RuleThreshold.objects.filter(rule=rule, name=name).delete()


def change(rule: str, values: Mapping[str, float | None], actor: Actor) -> bool:
    """Set thresholds of a rule, all or none; None lets the rule's own hold again. Returns whether any differs from before.

    Raises ThresholdInvalid.
    """
    with transaction.atomic():
        kept = dict(RuleThreshold.objects.filter(rule=rule).values_list("name", "value"))
        changed = {name: value for name, value in values.items() if kept.get(name) != value}
        for name, value in changed.items():
            if value is None:
                reset(rule, name)
            else:
                set_value(rule, name, value)
        if changed:
            before = {name: kept.get(name) for name in changed}
            audit.record(actor.name, "rule.thresholds", rule, {"from": before, "to": changed}, actor.address)
    return bool(changed)


def _of(rule: Rule, set_by_people: Mapping[str, float]) -> dict[str, float] | None:
    limits = {each.name: each.value for each in rule.thresholds.values() if each.value is not None}
    limits |= {name: value for name, value in set_by_people.items() if name.partition(":")[0] in rule.thresholds}
    is_set = {name.partition(":")[0] for name in limits}
    return limits if is_set >= rule.thresholds.keys() else None


def _known(rule: str, name: str) -> Threshold:
    found = rules.by_name().get(rule)
    if found is None:
        raise ThresholdInvalid(f"there is no rule named {rule!r}")
    plain, separator, cluster = name.partition(":")
    threshold = found.thresholds.get(plain)
    if threshold is None or (separator and not (0 < len(cluster) <= _LONGEST_CLUSTER and threshold.by_cluster)):
        raise ThresholdInvalid(f"rule {rule} has no threshold {name!r}; it has {', '.join(found.thresholds)}")
    return threshold
