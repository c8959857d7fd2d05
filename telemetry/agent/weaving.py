"""One batch of two kinds of ticks: the full ones, and those of power alone that lie between them. Called by batching.py."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from telemetry.message.block import Block, Column, Part, part_of

Ticks = tuple[int, ...]


def spread(columns: Mapping[str, Sequence[Column]], at: Ticks, n_ticks: int) -> dict[str, Sequence[Column]]:
    """Return columns of ticks of one kind as blocks of a batch of `n_ticks`, in which those ticks are `at`."""
    return {
        metric: Block(
            len(block), n_ticks, [part._replace(ticks=_among(part.ticks, at, n_ticks)) for part in _parts(block)]
        )
        for metric, block in columns.items()
    }


def woven(one: Sequence[Column], other: Sequence[Column]) -> Sequence[Column]:
    """Return a metric's readings of both kinds of ticks; they are blocks of one batch, and share no tick."""
    assert isinstance(one, Block) and isinstance(other, Block)  # noqa: S101, PT018 — both are `spread`'s
    left, parts = list(one.parts), []
    for part in other.parts:
        partner = next((each for each in left if (each.places, each.divisor) == (part.places, part.divisor)), None)
        if partner is None or len(partner.ticks or ()) + len(part.ticks or ()) != one.n_ticks:
            return [_filled(*columns) for columns in zip(one, other, strict=True)]
        left.remove(partner)
        parts.append(_interleaved(partner, part, one.n_ticks))
    return Block(one.n_devices, one.n_ticks, parts + left)


def _parts(block: Sequence[Column]) -> list[Part]:
    if isinstance(block, Block):
        return block.parts
    return [part_of(place, column) for place, column in enumerate(block) if column.count(None) < len(column)]


def _among(ticks: Ticks | None, at: Ticks, n_ticks: int) -> Ticks | None:
    found = at if ticks is None else tuple([at[tick] for tick in ticks])
    return found if len(found) < n_ticks else None


def _interleaved(one: Part, other: Part, n_ticks: int) -> Part:
    """Return both as one part of all ticks."""
    numbers: list[float] = []
    n = len(one.places)
    for place in range(n):
        own: list[float] = [0.0] * n_ticks
        for part in (one, other):
            assert part.ticks is not None  # noqa: S101 — `spread`'s
            each = len(part.ticks)
            values, where = part.numbers[place * each : (place + 1) * each], _regular(part.ticks)
            if where is not None:
                own[where] = values
            else:
                for tick, value in zip(part.ticks, values, strict=True):
                    own[tick] = value
        numbers += own
    return Part(one.places, None, numbers, one.divisor)


@lru_cache(maxsize=64)
def _regular(ticks: Ticks) -> slice | None:
    """Return the ticks as a slice, which costs a column one step; None where they are not evenly apart."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
    evenly = range(ticks[0], ticks[-1] + 1, step)
    return slice(evenly.start, evenly.stop, step) if tuple(evenly) == ticks else None


def _filled(one: Column, other: Column) -> Column:
    return [second if first is None else first for first, second in zip(one, other, strict=True)]
