"""Since when a device is with the host that names it now, and what is to be made again for it. Called by the inventory.

It is that host's from its first word of it on, but never before the last word of the host that had it: both may speak of it
for a while, and of each time one counts. What a host says of others' devices stands in its batches until these are compacted.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from django.db.models import Q, QuerySet

from fleet.inventory import moves
from fleet.models import Device, Host
from telemetry.decoding import received
from telemetry.message.fields import MessageInvalid
from telemetry.models import StoredBatch
from telemetry.store import bucketing, latest, marks, samples, stays
from telemetry.store.chunks import HOUR_MS

_MOST_BATCHES = 400  # that are looked at: what a host sends in half an hour
_MINUTE_SECONDS = 60
_KEY = ("epoch", "sequence", "start_ms")


class NotRead(Exception):
    """A device comes to a host whose stored batches were not looked through. Raised within a transaction, which is to end."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.name)
        self.host = host


class _Named(NamedTuple):
    """Which devices a batch names, and its times; nothing where it cannot be read."""

    uuids: frozenset[str]
    times_ms: tuple[int, ...]


_Key = tuple[str, int, int]  # epoch, sequence, start_ms


class Names:
    """When hosts' stored batches named which devices. Each is unpacked once, and outside of the transaction that asks.

    With `is_lazy` there is no transaction to be kept short: whatever is asked for is read then.
    """

    def __init__(self, *, is_lazy: bool = False) -> None:
        self._is_lazy = is_lazy
        self._of_hosts: dict[int, dict[_Key, _Named]] = {}

    def read(self, host: Host) -> None:
        """Look through the batches that a device's move may ask for."""
        self._of_hosts.setdefault(host.pk, {}).update(_read(_stored(host)))

    def since(self, host: Host, uuid: str, since_ms: int) -> Iterator[int]:
        """Yield the first time from then on of each stored batch of the host that names the device. Raises NotRead."""
        if host.pk not in self._of_hosts and not self._is_lazy:
            raise NotRead(host)
        known = self._of_hosts.setdefault(host.pk, {})
        keys = list(_stored(host).filter(end_ms__gte=since_ms).values_list(*_KEY)[:_MOST_BATCHES])
        new = [key for key in keys if key not in known]  # came since: this transaction's own
        if new:
            epochs, sequences, starts = (set(column) for column in zip(*new, strict=True))
            came = Q(epoch__in=epochs, sequence__in=sequences, start_ms__in=starts)
            known.update(_read(StoredBatch.objects.filter(came, host=host)))
        for key in keys:
            named = known.get(key)
            if named is not None and uuid in named.uuids:
                yield next(at for at in named.times_ms if at >= since_ms)


def to_host(device: Device, host: Host, names: Names) -> bool:
    """Move the device to the host, whose batches that name it are stored; False where another has moved it meanwhile.

    Raises NotRead where these are to be read first.
    """
    last_ms = _last_ms(device)
    named = names.since(host, device.uuid, last_ms + 1)
    from_ms = moves.move(device, host.pk, min(named, default=last_ms + 1))
    if from_ms is None:
        return False
    _make_again((device.host_id, host.pk), from_ms)
    return True


def tell_late(device: Device, host: Host, first_ms: int, last_ms: int) -> None:
    """Have the device be with the host in the past, as its batch of start ≤ t ≤ last tells late: when none other named it.

    Its own word of a time before its stay is one, and that of a host whose whole stay nobody had heard of.
    """
    if device.moved_ms is None or first_ms >= device.moved_ms:
        return
    then = next(
        (stay for stay in stays.of_moved({device.pk})[device.pk] if stay.from_ms <= first_ms < stay.until_ms), None
    )
    if then is None or then.host_id == host.pk:
        return
    before = Host.objects.get(pk=then.host_id)
    newest_ms = _newest_named_ms(before, device.uuid) or 0
    let_go_ms = max(
        newest_ms if newest_ms < then.until_ms else 0, _newest_sample_ms(device, first_ms, then.until_ms) or 0
    )
    from_ms = max(first_ms, let_go_ms + 1)
    if from_ms <= last_ms and from_ms < then.until_ms:
        moves.tell_of_past(device, host.pk, from_ms)
        _make_again((before.pk, host.pk), from_ms)


def _last_ms(device: Device) -> int:
    """Return when its host last told of the device; where neither that nor a sample is known any more, of anything."""
    host = device.host
    last_ms = _newest_named_ms(host, device.uuid) or _newest_sample_ms(device, device.moved_ms or 0, stays.FAR_MS)
    if last_ms is not None:
        return last_ms
    return 0 if host.last_seen_at is None else int(host.last_seen_at.timestamp() * 1000)


def _newest_named_ms(host: Host, uuid: str) -> int | None:
    """Return when the host named the device in what was its newest batch: None where it did only in what came late."""
    newest = latest.of_hosts([host]).get(host.pk)
    named = newest.devices.get(uuid) if newest else None
    return named.at_ms if named else None


def _newest_sample_ms(device: Device, start_ms: int, end_ms: int) -> int | None:
    """Return the time of the last stored sample of the device in start ≤ t < end; None where there is none."""
    for hour_ms in reversed(samples.hours([device], start_ms, end_ms)):
        found = samples.within(device, max(hour_ms, start_ms), min(hour_ms + HOUR_MS, end_ms))
        if found.present.any():
            return int(found.times_ms[found.present.any(axis=0)].max())
    return None


def _stored(host: Host) -> QuerySet[StoredBatch]:
    return StoredBatch.objects.filter(host=host).order_by("-start_ms")


def _read(rows: QuerySet[StoredBatch]) -> Mapping[_Key, _Named]:
    found = {}
    for row in rows[:_MOST_BATCHES]:
        try:
            batch = received.unpack(bytes(row.body), ())
        except MessageInvalid:
            continue  # the compaction tells of it, and keeps it
        uuids = frozenset(device.uuid for device in batch.devices)
        found[row.epoch, row.sequence, row.start_ms] = _Named(uuids, tuple(batch.times_ms))
    return found


def _make_again(hosts: Collection[int], from_ms: int) -> None:
    """Have the minutes made again of what is stored of these hosts since: whose it is has changed."""
    rows = StoredBatch.objects.filter(host__in=hosts, end_ms__gte=from_ms)
    wanted = {
        (host, _MINUTE_SECONDS, start_ms)
        for host, first_ms, last_ms in rows.values_list("host_id", "start_ms", "end_ms")
        for start_ms in bucketing.minutes_changed(max(first_ms, from_ms), last_ms, 1000, is_late=True)
    }
    marks.renew_hosts(wanted)
