"""What proves an event, in words for its row: the driver's notes of an event, values and limits of an alert. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from fleet import units
from fleet.models import Event
from telemetry import catalog
from telemetry.health import rules
from telemetry.views.code_words import code_words

_NAMES = {"action": "what to do", "epoch": "agent's life", "other_epoch": "the other one's"}
_IN_THE_TEXT = {"changed", "notices"}  # what changed stands in the text; the ids of notices are for the ingest
_UNITS = ("watts", "celsius", "seconds", "ratio", "bytes", "hertz")


def evidence(event: Event) -> list[tuple[str, str]]:
    """Return what the event's detail tells besides its text, as (name, words)."""
    if event.rule:
        return list(_of_alert(event))
    found = []
    for name, value in event.detail.items():
        if value and name not in _IN_THE_TEXT:
            found.append((_NAMES.get(name, name.removesuffix("_ms").replace("_", " ")), _words(name, value)))
    return found


def _of_alert(event: Event) -> Iterator[tuple[str, str]]:
    detail = event.detail
    if event.resolved_at is None:
        yield "what to do", detail.get("action", "")
    if values := detail.get("values"):
        yield f"read {_words('read_ms', detail['read_ms'])}", _listed(values, _labels(values))
    limits = {name: value for name, value in detail.get("thresholds", {}).items() if value}
    if event.resolved_at is None and limits:
        yield "limits", _listed(limits, _thresholds(event.rule))
    if event.acknowledged_by:
        yield f"acknowledged by {event.acknowledged_by}", detail.get("comment") or "no comment"
    if why := detail.get("resolved"):
        yield "resolved", why


def _listed(values: Mapping[str, object], labels: Mapping[str, str]) -> str:
    return " · ".join(
        f"{labels.get(name.partition(':')[0], name)} {_words(name, value)}" for name, value in values.items()
    )


def _labels(values: Mapping[str, object]) -> dict[str, str]:
    known = {name: catalog.BY_NAME[name].label for name in values if name in catalog.BY_NAME}
    return {name: _label(name) for name in values} | known


def _label(name: str) -> str:
    """Return a name in words, without the unit at its end: that stands behind the number."""
    words = name.removesuffix("_ms").split("_")
    return " ".join(words[:-1] if words[-1] in _UNITS and len(words) > 1 else words).replace("xid", "XID")


def _thresholds(rule: str) -> dict[str, str]:
    found = rules.by_name().get(rule)
    return {threshold.name: threshold.words for threshold in found.thresholds.values()} if found else {}


def _words(name: str, value: object) -> str:
    if name.endswith("_ms") and isinstance(value, int):
        return units.utc(datetime.fromtimestamp(value / 1000, UTC))
    if isinstance(value, int | float):
        unit = catalog.BY_NAME[name].unit if name in catalog.BY_NAME else _unit(name)
        return code_words(name, value) or str(units.quantity(value, unit))
    return str(value)


def _unit(name: str) -> str:
    """Return the unit that a name says; "count" where it says none."""
    return next((unit for unit in _UNITS if unit in name.partition(":")[0].split("_")), "count")
