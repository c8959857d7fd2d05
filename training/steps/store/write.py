"""Adding steps to a run's store. Called by the ingest of steps and the import, each inside its own transaction.

It keeps what it is given: that each step comes once is the caller's to see to.
"""

import math
from collections.abc import Iterator

from training.models import Run, StepChunk
from training.steps import body
from training.steps.columns import StepColumns

MOST_STEPS = 50_000  # of a chunk


def add(run: Run, steps: StepColumns) -> None:
    """Store the steps; none is no harm."""
    StepChunk.objects.bulk_create(chunks(run.pk, steps))


def chunks(run_id: int, steps: StepColumns) -> Iterator[StepChunk]:
    """Yield the rows that hold these steps, in order of time, of as equal a size as can be."""
    n_chunks = -(-len(steps) // MOST_STEPS)
    for number in range(n_chunks):
        part = steps.select(slice(len(steps) * number // n_chunks, len(steps) * (number + 1) // n_chunks))
        yield StepChunk(
            run_id=run_id,
            first_ms=math.floor(part.ended_ms[0]),
            last_ms=math.ceil(part.ended_ms[-1]),
            n_steps=len(part),
            lowest_rank=int(part.rank.min()),
            highest_rank=int(part.rank.max()),
            body=body.encode(part),
        )
