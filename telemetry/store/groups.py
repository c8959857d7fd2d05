"""Which devices the groups of the rollups count: all, those of a cluster, of a model, of a label's value. Called by the rollups.

A host's cluster and labels, and its devices, change elsewhere, below telemetry. What was counted last is kept beside them
(GroupMembers): each run compares, and has the buckets made again of the groups that a host has come to, or left.

Groups of a cluster or a label are of hosts: they count what a device did while it was with one of these. Among their members
are therefore also devices that have left. The fleet, and those of a model, count a device wherever it was.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2s
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q

from fleet.models import ACCELERATORS, Device, DeviceKind, Host
from telemetry.models import GroupKind, GroupMembers, GroupRollup, Rollup, RollupGroup
from telemetry.store import marks, rolled, stays

ACCELERATOR, CPU, NODE = "accelerator", "cpu", "node"
ACCOUNT = "account"  # a host's accelerators or, where it has none, its CPUs; and its nodes: what energy is accounted of
_CLASS_OF: dict[str, str] = {**dict.fromkeys(ACCELERATORS, ACCELERATOR), DeviceKind.CPU: CPU, DeviceKind.NODE: NODE}
_MARKS = 1000  # in one transaction
OF_HOSTS = (GroupKind.CLUSTER, GroupKind.LABEL)
_KINDS_OF_GROUPS = 3  # which groups a host may be in: another number, and all hosts are looked at again


class GroupKey(NamedTuple):
    """What a group is: its kind, the label's key and its value (or the cluster, or the model), and what it counts."""

    kind: str
    key: str
    value: str
    devices: str


HostSays = tuple[int, str, Mapping[str, object]]
"""Its id, cluster and labels."""
DeviceSays = tuple[int, int, str, str]
"""Its id, its host's, kind and model."""


class _Host(NamedTuple):
    cluster: str
    labels: Mapping[str, object]
    devices: list[tuple[int, str, str]]  # id, class, model
    # The same of devices that are elsewhere now; what is accounted of stands there again, as such.
    left: list[tuple[int, str, str]]

    def digest(self, label_keys: Iterable[str]) -> str:
        said = (
            _KINDS_OF_GROUPS,
            self.cluster,
            sorted((key, str(self.labels.get(key, ""))) for key in label_keys),
            sorted(self.devices),
            sorted(self.left),
        )
        return blake2s(repr(said).encode(), digest_size=16).hexdigest()

    def groups(self, label_keys: Iterable[str]) -> Iterator[tuple[GroupKey, int]]:
        keys = sorted(label_keys)
        present = [*self.devices, *self.accounted()]
        for pk, devices, model in present:
            yield GroupKey(GroupKind.FLEET, "", "", devices), pk
            yield GroupKey(GroupKind.MODEL, "", model, devices), pk
        for pk, devices, _ in [*present, *self.left]:
            yield GroupKey(GroupKind.CLUSTER, "", self.cluster, devices), pk
            for key in keys:
                yield GroupKey(GroupKind.LABEL, key, str(self.labels.get(key, ""))[:500], devices), pk

    def accounted(self) -> Iterator[tuple[int, str, str]]:
        counted = ACCELERATOR if any(devices == ACCELERATOR for _, devices, _ in self.devices) else CPU
        for pk, devices, model in self.devices:
            if devices in {counted, NODE}:
                yield pk, ACCOUNT, model


def whole_devices() -> Q:
    """Return what keeps parts of devices (MIG instances) out: their whole holds what they use."""
    return Q(parent=None, profile="")


def follow_members() -> None:
    """See what has changed in the inventory, and have the buckets of the groups that it concerns made again."""
    hosts, label_keys = _inventory()
    before = dict(GroupMembers.objects.values_list("host_id", "digest"))
    digests = {pk: host.digest(label_keys) for pk, host in hosts.items()}
    changed = {pk for pk, digest in digests.items() if before.get(pk) != digest} | (before.keys() - hosts.keys())
    if not changed:
        return
    ids = _group_ids({key for pk in changed if pk in hosts for key, _ in hosts[pk].groups(label_keys)})
    old: dict[int, dict[str, list[int]]] = dict(
        GroupMembers.objects.filter(host_id__in=changed).values_list("host_id", "devices")
    )
    new: dict[int, dict[str, list[int]]] = {pk: {} for pk in changed}
    for pk in changed & hosts.keys():
        for key, device in hosts[pk].groups(label_keys):
            new[pk].setdefault(str(ids[key]), []).append(device)
    _mark(_wanted(_affected(old, new), hosts.keys()) | _of_moved(old, new))
    with transaction.atomic():
        # Last: whoever is stopped before it compares, and marks, again.
        GroupMembers.objects.filter(host_id__in=changed).delete()
        GroupMembers.objects.bulk_create(
            GroupMembers(host_id=pk, digest=digests[pk], devices=new[pk]) for pk in sorted(changed & hosts.keys())
        )


def _inventory() -> tuple[dict[int, _Host], list[str]]:
    hosts = Host.objects.order_by().values_list("pk", "cluster", "labels")
    devices = Device.objects.filter(whole_devices()).order_by().values_list("pk", "host_id", "kind", "model")
    return _said(hosts, devices)


def _said(hosts: Iterable[HostSays], devices: Iterable[DeviceSays]) -> tuple[dict[int, _Host], list[str]]:
    """Return the hosts by id, and all label keys that any of them declares."""
    found = {pk: _Host(cluster, labels, [], []) for pk, cluster, labels in hosts}
    for pk, host, kind, model in devices:
        if host in found:
            found[host].devices.append((pk, _CLASS_OF[kind], model))
    _add_left(found, stays.pairs())
    return found, sorted({key for host in found.values() for key in host.labels})


def _add_left(found: Mapping[int, _Host], pairs: Mapping[int, Collection[int]]) -> None:
    """Add what was with a host and is not any more, as it counts where it is now."""
    moved = {pk for devices in pairs.values() for pk in devices}
    now: dict[int, list[tuple[int, str, str]]] = {}
    for host in found.values() if moved else ():
        for each in (*host.devices, *host.accounted()):
            if each[0] in moved:
                now.setdefault(each[0], []).append(each)
    for pk in pairs.keys() & found.keys():
        here = {each[0] for each in found[pk].devices}
        found[pk].left.extend(each for device in pairs[pk] if device not in here for each in now.get(device, ()))


def _group_ids(keys: Collection[GroupKey]) -> dict[GroupKey, int]:
    RollupGroup.objects.bulk_create((RollupGroup(**key._asdict()) for key in sorted(keys)), ignore_conflicts=True)
    rows = RollupGroup.objects.values_list("pk", *GroupKey._fields)
    return {GroupKey(*key): pk for pk, *key in rows}


Members = Mapping[int, Mapping[str, list[int]]]


def _affected(old: Members, new: Members) -> dict[int, set[int]]:
    """Return the groups by host, of which it has other devices than before."""
    found: dict[int, set[int]] = {}
    for host, now in new.items():
        before = old.get(host, {})
        differing = {group for group in {*before, *now} if sorted(before.get(group, ())) != sorted(now.get(group, ()))}
        found[host] = {int(group) for group in differing}
    return found


def _wanted(affected: Mapping[int, set[int]], present: Collection[int]) -> set[marks.Marked]:
    """Return the buckets of which the hosts have statistics; of a host that is gone, all that its groups have."""
    wanted: set[marks.Marked] = set()
    for host, groups in affected.items():
        if host in present:
            spans = [(group, span) for span in rolled.spans(Rollup, host=host) for group in groups]
        else:
            spans = [(group, span) for group in groups for span in rolled.spans(GroupRollup, group=group)]
        for group, (step, start_ms, n) in spans:
            wanted.update((group, step, start_ms + 1000 * step * at) for at in range(n))
    return wanted


def _of_moved(old: Members, new: Members) -> set[marks.Marked]:
    """Return, of groups that a device has come to, what those have that it has left: its past comes along, wherever it was.

    Not of groups of hosts: there it stays behind.
    """
    of_hosts = {str(pk) for pk in RollupGroup.objects.filter(kind__in=OF_HOSTS).values_list("pk", flat=True)}
    old, new = (
        {host: {group: own for group, own in groups.items() if group not in of_hosts} for host, groups in each.items()}
        for each in (old, new)
    )
    before, now = _groups_of_devices(old), _groups_of_devices(new)
    pairs: dict[frozenset[int], set[int]] = {}
    for device in before.keys() & now.keys():
        if came := now[device] - before[device]:
            pairs.setdefault(frozenset(before[device] - now[device] or before[device]), set()).update(came)
    wanted: set[marks.Marked] = set()
    for left, came in pairs.items():
        spans = {span for group in left for span in rolled.spans(GroupRollup, group=group)}
        buckets = {(step, start_ms + 1000 * step * at) for step, start_ms, n in spans for at in range(n)}
        wanted.update((group, *bucket) for group in came for bucket in buckets)
    return wanted


def _groups_of_devices(members: Members) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for groups in members.values():
        for group, devices in groups.items():
            for device in devices:
                found.setdefault(device, set()).add(int(group))
    return found


def _mark(wanted: Collection[marks.Marked]) -> None:
    every = sorted(wanted)
    for at in range(0, len(every), _MARKS):
        with transaction.atomic():
            marks.renew_groups(every[at : at + _MARKS])


def is_followed(hosts: Iterable[HostSays], devices: Iterable[DeviceSays]) -> bool:
    """Tell whether the groups count what the inventory says (its whole devices), or have their buckets marked to be made anew."""
    found, label_keys = _said(hosts, devices)
    digests = {pk: host.digest(label_keys) for pk, host in found.items()}
    return digests == dict(GroupMembers.objects.values_list("host_id", "digest"))


def of_hosts(hosts: Collection[int]) -> dict[int, list[int]]:
    """Return the ids of the groups that each host has devices in."""
    return {host: [int(group) for group in devices] for host, devices in _members_of(hosts)}


def concerned(told: Mapping[int, set[int]]) -> dict[int, set[int]]:
    """Return by host the ids of the groups that it has devices in, and of those that its devices of before are in now.

    `told` are the ids of the devices by host of which it has statistics. The groups of a host count also what has left it.
    """
    members = dict(_members_of(told))
    found = {host: {int(group) for group in members.get(host, ())} for host in told}
    left = stays.pairs(told)
    gone = {
        host: devices.difference(*members.get(host, {}).values()) | (devices & left.get(host, set()))
        for host, devices in told.items()
    }
    others = {device for devices in gone.values() for device in devices}
    if not others:
        return found
    homes = Device.objects.filter(whole_devices(), pk__in=others).order_by().values_list("host_id", flat=True)
    of_others = _groups_of_devices(dict(_members_of(set(homes))))
    for host, devices in gone.items():
        found[host].update(*(of_others.get(device, ()) for device in devices))
    return found


def _members_of(hosts: Collection[int]) -> Iterable[tuple[int, dict[str, list[int]]]]:
    return GroupMembers.objects.filter(host_id__in=hosts).values_list("host_id", "devices")


def members(groups: Collection[int]) -> dict[int, dict[int, list[int]]]:
    """Return the device ids by group and host."""
    wanted = {str(group): group for group in groups}
    found: dict[int, dict[int, list[int]]] = {group: {} for group in groups}
    for host, devices in GroupMembers.objects.values_list("host_id", "devices").iterator(chunk_size=500):
        for group in wanted.keys() & devices.keys():
            found[wanted[group]][host] = devices[group]
    return found


def class_of_fleet(cluster: str = "") -> str:
    """Return what the fleet, or a cluster, counts: accelerators, else CPUs, else nodes, as its pages do."""
    there = Device.objects.filter(whole_devices(), **({"host__cluster": cluster} if cluster else {}))
    if there.filter(kind__in=ACCELERATORS).exists():
        return ACCELERATOR
    return CPU if there.filter(kind=DeviceKind.CPU).exists() else NODE
