"""Packs an agent's batches: what stands still is laid out anew only where it differs from before. Called by the batcher.

Most of what a host tells stands still for minutes: limits, links, error counters, memory. It makes blocks of its own in the
body (codec.py), which are the same bytes again until one of its readings changes.
"""

from collections.abc import Mapping, Sequence

from telemetry.message.block import Block
from telemetry.message.wire import Batch, assemble, lay_out

ANEW_BATCHES = 12  # what has come to rest since is found then
RESTLESS_BATCHES = 60  # what stood still and moved again is not believed to stand for so long

_Block = Sequence[Sequence[float | None]]  # one metric's readings by device


class Packer:
    """Keeps what the two batches before told; one for each agent, and not for several threads at once.

    Two, since what is asked every other batch is the same in each second one though it moves.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, _Block] = {}
        self._earlier: Mapping[str, _Block] = {}  # the batch before that one
        self._standing: dict[str, _Block] = {}
        self._laid_out = b""
        self._n_packed = self._anew_at = 0
        self._restless: dict[str, int] = {}  # until which batch

    def pack(self, batch: Batch) -> bytes:
        """Return the batch's bytes, as `wire.pack` does: the same readings, perhaps in more blocks. Raises MessageInvalid."""
        columns = batch.columns
        moved = [metric for metric, block in self._standing.items() if not _is_same(columns.get(metric), block)]
        if moved or self._n_packed >= self._anew_at:
            if len(moved) < len(self._standing):  # else it is the ticks that are more or fewer
                self._restless |= dict.fromkeys(moved, self._n_packed + RESTLESS_BATCHES)
            self._stand(columns, is_new=bool(moved))
        self._n_packed += 1
        self._before, self._earlier = columns, self._before
        standing = self._standing
        moving = {metric: block for metric, block in columns.items() if metric not in standing}
        return assemble(batch, self._laid_out + lay_out(moving))

    def _stand(self, columns: Mapping[str, _Block], *, is_new: bool) -> None:
        """Find out what stands still now; `is_new` where that is not what stood still before, and perhaps more."""
        before, earlier, restless = self._before, self._earlier, self._restless
        standing = {
            metric: block
            for metric, block in columns.items()
            if _is_same(before.get(metric), block)
            and _is_same(earlier.get(metric), block)
            and restless.get(metric, 0) <= self._n_packed
        }
        if is_new or standing.keys() != self._standing.keys():
            self._laid_out = lay_out(standing)
        self._standing = standing
        self._anew_at = self._n_packed + (ANEW_BATCHES if self._standing else 1)


def _is_same(before: _Block | None, now: _Block) -> bool:
    # Blocks say whether they are equal in more steps than their parts do.
    if type(before) is type(now) is Block and before.n_ticks == now.n_ticks:
        return before.parts == now.parts
    return before == now
