"""Packs an agent's batches: what stands still is laid out anew only where it differs from before. Called by the batcher.

Most of what a host tells stands still for minutes: limits, links, error counters, memory. It makes blocks of its own in the
body (codec.py), which are the same bytes again until one of its readings changes.
"""

from collections.abc import Mapping, Sequence

from telemetry.wire import Batch, assemble, lay_out

ANEW_BATCHES = 12  # what has come to rest since is found then

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
        self._n_used = 0

    def pack(self, batch: Batch) -> bytes:
        """Return the batch's bytes, as `wire.pack` does: the same readings, perhaps in more blocks. Raises MessageInvalid."""
        columns = batch.columns
        if not self._still_stands(columns):
            before, earlier = self._before, self._earlier
            self._standing = {
                metric: block
                for metric, block in columns.items()
                if before.get(metric) == block and earlier.get(metric) == block
            }
            self._laid_out, self._n_used = lay_out(self._standing), 0
        self._n_used += 1
        self._before, self._earlier = columns, self._before
        standing = self._standing
        moving = {metric: block for metric, block in columns.items() if metric not in standing}
        return assemble(batch, self._laid_out + lay_out(moving))

    def _still_stands(self, columns: Mapping[str, _Block]) -> bool:
        if not self._standing or self._n_used >= ANEW_BATCHES:
            return False
        return all(columns.get(metric) == block for metric, block in self._standing.items())
