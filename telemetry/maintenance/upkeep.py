"""The store's upkeep in one place: partitions, retention, the disk limit, space given back, and the figures of the settings page.

Called from beat. Each part notes its run in MaintenanceRun; a part that fails does not keep the next ones from running.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from fleet.inventory import removal
from telemetry import vendor_sql
from telemetry.maintenance import disk_limit, retention
from telemetry.maintenance.noted import Run, noted
from telemetry.models import TableFigures
from telemetry.store import partitions

logger = logging.getLogger(__name__)

TABLES = (
    "telemetry_storedbatch", "telemetry_chunk", "telemetry_rollup", "telemetry_grouprollup", "telemetry_setaside",
)  # fmt: skip


def keep(now: datetime, budget_seconds: float) -> None:
    """Do all of it within about `budget_seconds`. Raises the last part's error that failed, when all have had their turn."""
    deadline = time.monotonic() + budget_seconds
    failure: Exception | None = None
    for name, part in _PARTS.items():
        try:
            with noted(name, now) as run:
                part(run, now, deadline)
        except Exception as error:  # whatever one part fails of, the disk's room hangs on the next
            logger.exception("upkeep: %s failed", name)
            failure = error
    if failure is not None:
        raise failure


def _partitions(run: Run, now: datetime, deadline: float) -> None:
    oldest = {table: retention.milliseconds(now) - 1000 * seconds for table, seconds in retention.ages().items()}
    run.done = partitions.keep(retention.milliseconds(now), oldest)


def _retention(run: Run, now: datetime, deadline: float) -> None:
    run.done = retention.retire(now, deadline)
    run.done += retention.retire_groups(now, deadline)  # apart: where this fails, the other is noted


def _removed_hosts(run: Run, now: datetime, deadline: float) -> None:
    run.done = removal.clear(deadline)


def _disk_limit(run: Run, now: datetime, deadline: float) -> None:
    run.note = disk_limit.keep(now, deadline)


def _space(run: Run, now: datetime, deadline: float) -> None:
    run.done = disk_limit.give_back(deadline)
    if not vendor_sql.gives_back_space():
        run.note = "this file was made before it could give space back; docs/install.md says how it can"


def _counting(run: Run, now: datetime, deadline: float) -> None:
    run.done = count(now)


_PARTS: dict[str, Callable[[Run, datetime, float], None]] = {
    "partitions": _partitions,
    "retention": _retention,
    "removed hosts": _removed_hosts,
    "disk limit": _disk_limit,
    "space given back": _space,
    "counting": _counting,
}


def count(now: datetime) -> int:
    """Count what the store's tables hold; returns the number of tables."""
    for table in TABLES:
        size = vendor_sql.table_size(table)
        fields = {"n_rows": size.n_rows, "n_bytes": size.n_bytes, "oldest_ms": size.oldest_ms, "counted_at": now}
        TableFigures.objects.update_or_create(table=table, defaults=fields)
    return len(TABLES)
