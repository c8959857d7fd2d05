"""Steps made for tests of the arithmetic: ranks in lockstep, and whatever hypothesis thinks of."""

import numpy as np
from hypothesis import strategies as st

from training.steps.columns import StepColumns, StepKind, of_arrays

START_MS = 1_700_000_000_000.0


def lockstep(seconds, n_ranks=1, *, start_ms=START_MS, pause_seconds=0.0, first=0, attempt=0, **columns) -> StepColumns:
    """Training steps of these `seconds (n,)`, one after the other, that all ranks do together."""
    seconds = np.asarray(seconds, float)
    ended_ms = start_ms + np.cumsum(seconds + pause_seconds) * 1000 - pause_seconds * 1000
    ranks, n = np.arange(n_ranks), seconds.size
    return of_arrays(
        {
            "rank": np.tile(ranks, n),
            "number": np.repeat(np.arange(first, first + n), n_ranks),
            "ended_ms": np.repeat(ended_ms, n_ranks),
            "seconds": np.repeat(seconds, n_ranks),
            "attempt": np.full(n * n_ranks, attempt),
        }
        | {name: np.broadcast_to(values, n * n_ranks) for name, values in columns.items()}
    )


@st.composite
def any_steps(draw, max_size=40) -> StepColumns:
    """Steps of any kind, rank and attempt within 1,000 s, overlapping as they like."""
    n = draw(st.integers(0, max_size))

    def column(strategy):
        return draw(st.lists(strategy, min_size=n, max_size=n))

    amounts = st.one_of(st.just(float("nan")), st.floats(0, 1e6))
    return of_arrays(
        {
            "rank": column(st.integers(0, 3)),
            "number": column(st.integers(0, 50)),
            "ended_ms": [START_MS + at for at in column(st.integers(0, 1_000_000))],
            "seconds": column(st.floats(0, 60)),
            "samples": column(amounts),
            "tokens": column(amounts),
            "kind": column(st.sampled_from([int(kind) for kind in StepKind])),
            "attempt": column(st.integers(0, 2)),
            "is_warmup": column(st.booleans()),
        }
    )
