"""Handing over what batches bring for the upper package, in the transaction that accepts them: once, and not without them.

Whoever takes a kind of cargo is named as a string. Called by the ingest.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from django.utils.module_loading import import_string

from fleet.models import Host
from telemetry.message.wire import Batch

Taker = Callable[[Sequence[tuple[Host, Sequence[bytes]]], datetime], None]

CARGO_TAKERS = {"steps": "training.runs.ingest.take"}


def hand_over(batches: Sequence[tuple[Host, Batch]], now: datetime) -> None:
    """Let each taker have the pieces of its name, by batch; those of a name that is not known are left.

    A taker leaves out what does not fit: what it raises undoes the whole group of batches, which then comes again.
    """
    for name, path in CARGO_TAKERS.items():
        pieces = [(host, batch.cargo[name]) for host, batch in batches if name in batch.cargo]
        if pieces:
            taker: Taker = import_string(path)
            taker(pieces, now)
