"""Steps as canonical CSV, which import_steps reads back, piece by piece. No Django. Called by the run's page."""

from collections.abc import Iterator

from training.steps.columns import Floats, StepColumns, StepKind

_LINES = 5_000  # of one piece
_KINDS = [kind.name.lower() for kind in StepKind]
_TOLD = ("samples", "tokens", "loss", "compute_seconds")


def pieces(steps: StepColumns) -> Iterator[bytes]:
    """Yield the head, then the steps in order of time; what is not told is empty."""
    phases = list(steps.phases)
    names = (
        "time_ms",
        "seconds",
        "kind",
        "step",
        "rank",
        "attempt",
        "is_warmup",
        *_TOLD,
        *(f"phase_{name}_seconds" for name in phases),
    )
    yield (",".join(names) + "\n").encode()
    for start in range(0, len(steps), _LINES):
        yield "".join(_lines(steps.select(slice(start, start + _LINES)), phases)).encode()


def _lines(steps: StepColumns, phases: list[str]) -> Iterator[str]:
    columns = [
        [f"{at:.0f}" for at in steps.ended_ms.tolist()],
        _numbers(steps.seconds),
        [_KINDS[kind] for kind in steps.kind.tolist()],
        map(str, steps.number.tolist()),
        map(str, steps.rank.tolist()),
        map(str, steps.attempt.tolist()),
        map(str, steps.is_warmup.astype(int).tolist()),
        *(_numbers(getattr(steps, name)) for name in _TOLD),
        *(_numbers(steps.phases[name]) for name in phases),
    ]
    for row in zip(*columns, strict=True):
        yield ",".join(row) + "\n"


def _numbers(values: Floats) -> list[str]:
    return ["" if value != value else f"{value:.9g}" for value in values.tolist()]  # noqa: PLR0124  NaN is not itself
