"""The registry of health rules. The upper apps add theirs by `register`, when Django starts them (AppConfig.ready)."""

from collections.abc import Mapping
from types import MappingProxyType

from telemetry.health import device_rules, disk_rules, fleet_rules, host_rules, load_rules, peer_rules
from telemetry.health.rule import Rule

_RULES: dict[str, Rule] = {}


def register(rule: Rule) -> None:
    """Add a rule. Raises ValueError where another has its name."""
    if _RULES.setdefault(rule.name, rule) is not rule:
        raise ValueError(f"there are two health rules named {rule.name}")


def by_name() -> Mapping[str, Rule]:
    return MappingProxyType(_RULES)


def words(name: str) -> str:
    """Return what people call the rule; its name, where an alert of a rule is left that is no more."""
    return _RULES[name].words if name in _RULES else name


for _rule in (
    *host_rules.RULES, *device_rules.RULES, *load_rules.RULES, peer_rules.RULE, *fleet_rules.RULES, *disk_rules.RULES,
):  # fmt: skip
    register(_rule)
