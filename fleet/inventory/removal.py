"""A host that leaves for good: at once for everybody, and then, a slice at a time, with all that it measured.

The first transaction takes it out of the inventory. Its row and its devices' stay as long as anything hangs on them, under
names that nobody can ask for, and `Host.objects` and `Device.objects` do not have them. Whoever is stopped in between leaves
nothing undone: the upkeep goes on with it. Called by pages and commands.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from math import inf
from typing import Any

from django.db import transaction
from django.db.models import CASCADE, SET_NULL, CharField, ForeignObjectRel, Model, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.dispatch import Signal

from fleet import slices
from fleet.access import audit
from fleet.access.audit import Actor
from fleet.inventory import events
from fleet.models import Device, DeviceStay, EnrolmentToken, EventKind, Host

host_leaves = Signal()  # with `host` and `now`, in the first transaction, while all that hangs on the host still stands
# With `host_id`, outside of any transaction: a receiver deletes one slice of what is its to delete before all else, and
# returns how many rows went. Sent until nobody has any.
host_goes = Signal()


def remove_host(host: Host, actor: Actor, now: datetime, deadline: float = inf) -> None:
    """Delete the host with its devices and all that it measured; from now on its agent is a stranger.

    What is left at `deadline` (time.monotonic) the upkeep deletes. What other packages keep of it goes the same way; training
    ends its jobs first (training/hooks/removal.py), and receivers are told that its alerts ended (telemetry/notify/removal.py).
    """
    _take_out(host, actor, now)
    clear(deadline)


def clear(deadline: float) -> int:
    """Delete what is left of hosts that were removed, until `deadline` (time.monotonic); returns how many rows went."""
    gone = 0
    for host_id in list(Host.every.exclude(removed_at=None).order_by("pk").values_list("pk", flat=True)):
        for went in _slices(host_id):
            gone += went
            if time.monotonic() >= deadline:
                return gone
    return gone


def is_going(name: str) -> bool:
    """Tell whether something is left of a host that was removed under this name."""
    removed = Host.every.exclude(removed_at=None).values_list("pk", "name")
    return any(now == _name_of_removed(name, pk) for pk, now in removed)


def _name_of_removed(name: str, pk: int) -> str:
    """Return a name that no host can have: its own is free."""
    suffix = f" (removed, {pk})"
    return name[: 63 - len(suffix)] + suffix


@transaction.atomic
def _take_out(host: Host, actor: Actor, now: datetime) -> None:
    if not list(Host.objects.select_for_update().filter(pk=host.pk).values_list("pk")):
        return  # somebody else was quicker
    detail = {"cluster": host.cluster, "origin": host.origin, "devices": host.devices.count()}
    audit.record(actor.name, "host.remove", host.name, detail, actor.address)
    host_leaves.send(Host, host=host, now=now)
    EnrolmentToken.objects.filter(host=host).delete()
    DeviceStay.objects.filter(Q(host=host) | Q(device__host=host)).delete()
    unnamed = Concat(Value("removed-"), Cast("pk", CharField()))
    Device.objects.filter(host=host).update(removed_at=now, uuid=unnamed)
    name = _name_of_removed(host.name, host.pk)
    Host.objects.filter(pk=host.pk).update(removed_at=now, name=name, public_key=b"", earlier_keys=[], machine="")
    text = f"{host.name} was removed with its {detail['devices']} devices by {actor.name}"
    events.record(EventKind.HOST_REMOVED, now, text, detail=detail | {"host": host.name})


def _slices(host_id: int) -> Iterator[int]:
    """Yield how many rows of each slice went; the last one is the host itself. What is seen in lists goes first."""
    while went := sum(gone for _, gone in host_goes.send(Host, host_id=host_id)):  # type: ignore[misc]  # numbers
        yield went
    devices = Device.every.filter(host=host_id)
    hanging = [*_hanging(Host, [host_id]), *_hanging(Device, devices)]
    for rows, relation in sorted(hanging, key=lambda each: slices.has_body(each[0].model)):
        while went := _release(rows, relation):
            yield went
    while went := slices.delete_some(devices):
        yield went
    yield int(Host.every.filter(pk=host_id).delete()[0])


def _hanging(model: type[Model], owners: Any) -> Iterator[tuple[QuerySet[Any], ForeignObjectRel]]:
    """Yield the rows of each other model that hang on these, with how they do; but for hosts' devices."""
    for relation in model._meta.get_fields(include_hidden=True):  # noqa: SLF001 — documented by Django
        if isinstance(relation, ForeignObjectRel) and relation.field.concrete and not relation.many_to_many:
            other = relation.related_model
            if other is not Device:
                every = other._base_manager  # noqa: SLF001 — documented by Django
                yield every.filter(**{f"{relation.field.name}__in": owners}), relation


def _release(rows: QuerySet[Any], relation: ForeignObjectRel) -> int:
    """Delete a slice of the rows, or let it go on without what it hung on. Returns how many there were."""
    if relation.on_delete is CASCADE:
        return slices.delete_some(rows)
    if relation.on_delete is not SET_NULL:
        raise TypeError(f"{relation.field}: a host's removal knows nothing of what is to become of it")
    some = list(rows.order_by().values_list("pk", flat=True)[: slices.MOST_ROWS])
    every = rows.model._base_manager  # noqa: SLF001 — documented by Django
    return int(every.filter(pk__in=some).update(**{relation.field.name: None})) if some else 0
