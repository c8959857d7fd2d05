"""What the settings page shows of the last run of each kind of upkeep: how long it took, what it did, why it failed.

Called by the upkeep's tasks and by the rollups.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from fleet.turns import TurnFailed
from telemetry.models import MaintenanceRun


@dataclass(slots=True)
class Run:
    """What a part of the upkeep fills in while it runs."""

    done: int = 0
    note: str = ""


@contextmanager
def noted(name: str, now: datetime) -> Iterator[Run]:
    """Note how long a part took and what it did; also where it failed, with the error, which goes on.

    Where somebody's turn failed, what was done for the others counts.
    """
    run, begun = Run(), time.monotonic()
    try:
        yield run
    except Exception as error:
        run.done += error.done if isinstance(error, TurnFailed) else 0
        run.note = f"failed: {type(error).__name__}: {error}"
        raise
    finally:
        note(name, now, time.monotonic() - begun, run)


def note(name: str, now: datetime, seconds: float, run: Run) -> None:
    fields = {"started_at": now, "seconds": seconds, "done": run.done, "note": run.note[:500]}
    MaintenanceRun.objects.update_or_create(name=name, defaults=fields)
