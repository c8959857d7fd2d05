"""Which of the groups that the store keeps statistics of stand for an account of the fleet or of a cluster. Called by fleet.py.

No groups within a cluster are kept. Where all of it is one model, or has one label, its own group tells of that; where
several, their groups, if these are nowhere else.
"""

from collections.abc import Collection, Iterable, Mapping

from django.db.models import QuerySet

from fleet.models import DeviceKind, DeviceStay
from telemetry.accounts.account import Scope
from telemetry.accounts.members import AccountDevice, AccountHost, counted_of, key_of_host
from telemetry.models import GroupKind, RollupGroup
from telemetry.store import groups

Names = dict[int, list[str | None]]
"""The groups' ids with their keys in the accounts; None is the whole."""


def of_account(
    devices: Iterable[AccountDevice], hosts: Mapping[int, AccountHost], scope: Scope, group_by: str, cluster: str | None
) -> Names:
    """Return the groups to read, of the inventory's devices and hosts; nothing where the store has none of these."""
    kept = RollupGroup.objects.filter(devices=groups.ACCOUNT)
    whole = {"kind": GroupKind.FLEET} if cluster is None else {"kind": GroupKind.CLUSTER, "value": cluster}
    names: Names = {pk: [None] for pk in kept.filter(**whole).values_list("pk", flat=True)}
    if group_by in {"", "day"} or not names:
        return names
    if cluster is None:
        found = dict(_of_kind(kept, group_by).values_list("pk", "value")) or None
    else:
        found = _within(kept, names, cluster, group_by, _told(devices, hosts, scope, group_by))
    if found is None:
        return {}
    for pk, name in found.items():
        names.setdefault(pk, []).append(name)
    return names


def _of_kind(kept: QuerySet[RollupGroup], group_by: str) -> QuerySet[RollupGroup]:
    kind, _, key = group_by.partition(":")
    return kept.filter(kind=kind, key=key)


def _told(
    devices: Iterable[AccountDevice], hosts: Mapping[int, AccountHost], scope: Scope, group_by: str
) -> set[tuple[str, str]]:
    """Return the clusters with the models, or values of a label, that are in them."""
    if group_by != "model":
        return {(host.cluster, key_of_host(host, group_by)) for host in hosts.values()}
    scoped = counted_of(devices) if scope is Scope.DEVICE else (d for d in devices if d.kind == DeviceKind.NODE)
    return {(device.host.cluster, device.model) for device in scoped}


def _within(
    kept: QuerySet[RollupGroup], whole: Collection[int], cluster: str, group_by: str, told: Collection[tuple[str, str]]
) -> dict[int, str] | None:
    """Return the groups that stand for those of a cluster; None where devices came or left, or one is also in another."""
    here = {name for place, name in told if place == cluster}
    if DeviceStay.objects.filter(host__cluster=cluster).exists():
        return None
    if len(here) == 1:
        return dict.fromkeys(whole, *here)
    if here & {name for place, name in told if place != cluster}:
        return None
    return dict(_of_kind(kept, group_by).filter(value__in=here).values_list("pk", "value"))
