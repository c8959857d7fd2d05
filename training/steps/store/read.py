"""Reading a run's steps, in order of time. Called by figures, pages, exports and the import; writes nothing."""

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
from django.db.models import QuerySet

from training.models import Run, StepChunk
from training.steps import body as step_body
from training.steps import columns as step_columns
from training.steps.columns import NAMES, StepColumns

logger = logging.getLogger(__name__)

_COLUMNS = frozenset((*NAMES, "phases"))


def steps(
    run: Run | int,
    start_ms: float | None = None,
    end_ms: float | None = None,
    *,
    ranks: Collection[int] | None = None,
    columns: Collection[str] | None = None,
) -> StepColumns:
    """Return the steps that ended from `start_ms` on and before `end_ms`, of all ranks or of `ranks`.

    `columns` names those that are wanted ("phases" for all phases), None wants all; `rank` and `ended_ms` are always there.
    What is not wanted reads as if it were not told: NaN, 0, or no phase. A chunk that is corrupt is reported and left out.
    """
    if columns is not None and not _COLUMNS.issuperset(columns):
        raise ValueError(f"columns: expected some of {', '.join(sorted(_COLUMNS))}")
    rows = _rows(run if isinstance(run, int) else run.pk, start_ms, end_ms, ranks)
    found = step_columns.joined(
        [part for pk, body in rows if (part := _decoded(pk, bytes(body), columns, ranks)) is not None]
    )
    if start_ms is None and end_ms is None:
        return found
    return found.between(-np.inf if start_ms is None else start_ms, np.inf if end_ms is None else end_ms)


def _rows(
    run_id: int, start_ms: float | None, end_ms: float | None, ranks: Collection[int] | None
) -> QuerySet[StepChunk, tuple[int, Any]]:
    # One statement: what is compacted meanwhile is read either as it was or as it is.
    found = StepChunk.objects.filter(run_id=run_id)
    if start_ms is not None:
        found = found.filter(last_ms__gte=start_ms)
    if end_ms is not None:
        found = found.filter(first_ms__lt=end_ms)
    if ranks:
        found = found.filter(lowest_rank__lte=max(ranks), highest_rank__gte=min(ranks))
    return found.order_by("first_ms").values_list("pk", "body")


def _decoded(
    pk: int, body: bytes, columns: Collection[str] | None, ranks: Collection[int] | None
) -> StepColumns | None:
    try:
        found = step_body.decode(body, columns)
    except step_body.BodyCorrupt as error:
        logger.error("step chunk %d is corrupt and left out: %s", pk, error)  # noqa: TRY400 — its words say all
        return None
    return found if ranks is None else found.select(np.isin(found.rank, list(ranks)))
