"""Who used a device within a span of time: the lists of its processes that came with batches, until these are compacted.

Read soon after, within an hour or so: what is joined into chunks keeps readings only. Called by training's verdicts.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from fleet.models import Device
from telemetry.decoding import received
from telemetry.message.fields import MessageInvalid
from telemetry.message.wire import DeviceProcess
from telemetry.models import StoredBatch
from telemetry.store import stays

logger = logging.getLogger(__name__)
_MOST_BATCHES = 2_000


class Listed(NamedTuple):
    """One list of the device's processes, whole; `at_ms` is the end of the batch that it came with, by the host's clock."""

    at_ms: int
    processes: Sequence[DeviceProcess]


def between(device: Device, start_ms: int, end_ms: int) -> list[Listed]:
    """Return the lists of batches that ended within start ≤ time ≤ end, oldest first; none where nobody looked."""
    hosts = stays.hosts_of([device], start_ms, end_ms + 1)
    rows = StoredBatch.objects.filter(host__in=hosts, end_ms__gte=start_ms, end_ms__lte=end_ms)
    found = []
    for row in rows.order_by("end_ms")[:_MOST_BATCHES]:
        try:
            batch = received.unpack(bytes(row.body), ())
        except MessageInvalid as error:
            logger.warning("batch %s cannot be read: %s", row, error)
            continue
        if device.uuid in batch.processes:
            found.append(Listed(row.end_ms, batch.processes[device.uuid]))
    return found
