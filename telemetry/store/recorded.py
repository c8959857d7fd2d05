"""Writing recorded telemetry: windows of samples that may come in any split, order and repetition. Called by the importers.

Unlike an agent's batch, which is stored once as it came, a window grows: what a later file says of the same device and
time joins what is there, and the same file again changes nothing.
"""

from dataclasses import replace
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q

from fleet.models import Host
from telemetry import received, wire
from telemetry.models import LatestState, StoredBatch
from telemetry.store import accept
from telemetry.wire import Batch

WINDOW_MS = 600_000


class WindowFull(ValueError):
    """Two recordings of one device and time have more samples together than a window holds."""


@transaction.atomic
def keep(host: Host, window: Batch) -> bool:
    """Store one device's window, whose `sequence` is its time over WINDOW_MS; False where it changed nothing.

    Raises WindowFull, and leaves what was there.
    """
    known = (
        StoredBatch.objects.select_for_update().filter(host=host, epoch=window.epoch, sequence=window.sequence).first()
    )
    if known is not None:
        window = _joined(received.unpack(bytes(known.body)), window)
    body = wire.pack(window)
    if known is not None and body == bytes(known.body):
        return False
    start_ms, end_ms = window.times_ms[0], window.times_ms[-1]
    StoredBatch.objects.update_or_create(
        host=host,
        epoch=window.epoch,
        sequence=window.sequence,
        defaults={"start_ms": start_ms, "end_ms": end_ms, "body": body},
    )
    accept.mark_dirty(host, window, is_late=True)
    _update_latest(host, window)
    newest = datetime.fromtimestamp(end_ms / 1000, UTC)
    Host.objects.filter(Q(last_seen_at=None) | Q(last_seen_at__lt=newest), pk=host.pk).update(last_seen_at=newest)
    return True


def _joined(old: Batch, new: Batch) -> Batch:
    """Return both windows' samples; where both have one of the same metric and time, the new one."""
    times = sorted({*old.times_ms, *new.times_ms})
    if len(times) > wire.MAX_TICKS:
        at = datetime.fromtimestamp(times[0] / 1000, UTC)
        raise WindowFull(
            f"{new.devices[0].uuid}: with what is stored, the ten minutes from {at:%F %T} UTC would have {len(times)} samples, "
            f"more than {wire.MAX_TICKS}; import the recordings under hosts of their own, or with fewer samples a second"
        )
    columns: dict[str, list[list[float | None]]] = {}
    for metric in {*old.columns, *new.columns}:
        found: dict[int, float | None] = {}
        for window in (old, new):
            column = window.columns.get(metric, [[None] * len(window.times_ms)])[0]
            found |= {at: value for at, value in zip(window.times_ms, column, strict=True) if value is not None}
        columns[metric] = [[found.get(at) for at in times]]
    seconds = min(old.sample_seconds, new.sample_seconds)
    return replace(new, times_ms=times, sent_ms=times[-1], columns=columns, sample_seconds=seconds)


def _update_latest(host: Host, window: Batch) -> None:
    """Put the window's last samples into the host's row, by device: a file may hold one device after another."""
    row = LatestState.objects.select_for_update().filter(host=host).first()
    devices = dict(row.devices) if row else {}
    uuid, at_ms = window.devices[0].uuid, window.times_ms[-1]
    if uuid in devices and devices[uuid]["at_ms"] > at_ms:
        return
    values = {metric: columns[0][-1] for metric, columns in window.columns.items() if columns[0][-1] is not None}
    devices[uuid] = {"at_ms": at_ms, "read_ms": at_ms, "values": values, "absent": {}}
    newest = max(at_ms, row.at_ms if row else at_ms)
    LatestState.objects.update_or_create(host=host, defaults={"at_ms": newest, "devices": devices})
