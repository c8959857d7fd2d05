"""The watch: each ten seconds it shows the fleet to the rules, and opens, refreshes and resolves alerts by what they see.

What is not known neither raises nor clears: a host that went silent does not end its devices' alerts.
"""

from collections.abc import Collection
from datetime import datetime

from fleet.models import Event
from fleet.turns import Turns
from telemetry.health import alerts, look, rules, thresholds
from telemetry.health.alerts import Found
from telemetry.health.look import Known
from telemetry.health.memory import FLEET, Memory, Waiting
from telemetry.health.rule import Standing
from telemetry.health.seeing import Key, Seeing
from telemetry.health.standing import Change, step


def watch(now: datetime) -> None:
    """Make one pass over the fleet. Called by a beat task; idempotent, and safe to kill at any moment."""
    limits, memory = thresholds.in_force(), Memory.load()
    open_now = {(event.rule, event.subject): event for event in alerts.open_alerts().select_related("host")}
    under_way = {(rule, subject): (scope, waiting) for scope, rule, subject, waiting in memory.waiting()}
    known = look.known(now, max((found.get("recent_seconds", 0) for found in limits.values()), default=0))
    seeing, turns = Seeing(limits, open_now.keys() | under_way.keys(), now), Turns[str]("judging")
    for host in look.hosts(known, now, memory.watched_since(now)):
        with turns.of(host.name):
            memory.count(host)
            seeing.take(host)
    seeing.conclude(turns)
    existing = _existing(known)
    memory.forget({name for name in existing if name.startswith("host:")})
    _follow(seeing, open_now, under_way, memory, existing, now)
    memory.save()
    turns.end()


def _existing(known: Known) -> set[str]:
    """Return the subjects that an alert may be about besides the fleet's own."""
    devices = {device.name for of_host in known.devices.values() for device in of_host}
    return devices | {f"host:{host.name}" for host in known.hosts.values()}


def _follow(
    seeing: Seeing, open_now: dict[Key, Event], under_way: dict[Key, tuple[str, Waiting]], memory: Memory,
    existing: Collection[str], now: datetime,
) -> None:  # fmt: skip
    """Do for each subject that is raised or tracked what follows from how it stands."""
    now_ms, still, opening, ending = int(now.timestamp() * 1000), [], [], []
    for key in {*seeing.signs, *open_now, *under_way}:
        event, (scope, waiting) = open_now.get(key), under_way.get(key, ("", None))
        why = seeing.is_over(key, existing)
        standing = Standing.CLEAR if why else seeing.standing(key, existing)
        since_ms = waiting.since_ms if waiting and waiting.is_to_clear == (event is not None) else None
        wait = 0 if why else seeing.limits[key[0]]["clear_seconds" if event else "for_seconds"]
        after = step(standing, since_ms, now_ms, wait * 1000, is_open=event is not None)
        if after.change is Change.RESOLVE and event is not None:
            ending.append((event, why))
        elif after.change is Change.OPEN:
            opening.append(_found(seeing, key, after.since_ms or now_ms))
        elif standing is Standing.RAISED and event is not None:
            still.append((event, _found(seeing, key, now_ms)))
        is_waiting = after.change is Change.NONE and after.since_ms is not None
        place = scope or (seeing.signs[key][0].scope if key in seeing.signs else _scope(event))
        memory.wait(*(place, *key), Waiting(after.since_ms or 0, event is not None) if is_waiting else None)
    alerts.settle(opening, ending, now)
    alerts.refresh(still, now)


def _found(seeing: Seeing, key: Key, since_ms: int) -> Found:
    subject, sign = seeing.signs[key]
    return Found(rules.by_name()[key[0]], subject, sign, seeing.limits[key[0]], since_ms)


def _scope(event: Event | None) -> str:
    return f"host:{event.host.name}" if event is not None and event.host is not None else FLEET
