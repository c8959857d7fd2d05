"""Reading runs of integers: what the blocks of codec version 2 consist of. Called by codec_v2 only.

A run is the least of its integers (zigzag varint) and their width in bits (a byte); where that is not 0, the step (varint),
and of each integer how many steps it lies above the least. A clock that moves by 15 MHz costs a few bits a reading.
"""

from telemetry.message.codec import BlockInvalid

_GROUP = 64  # integers packed at a time: one integer of all bits would cost its length for each of them
_VARINT_BITS, _MAX_WIDTH = 70, 66
_TOO_SHORT = "the body ends too early"


class Reader:
    """Takes the body apart from its beginning; `at` is where it stands."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0

    def take(self, n: int) -> bytes:
        part = self._body[self.at : self.at + n]
        if len(part) != n:
            raise BlockInvalid(_TOO_SHORT)
        self.at += n
        return part

    def byte(self) -> int:
        try:
            found = self._body[self.at]
        except IndexError:
            raise BlockInvalid(_TOO_SHORT) from None
        self.at += 1
        return found

    def varint(self) -> int:
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in range(7, _VARINT_BITS, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BlockInvalid("a number is too long")

    def run(self, n: int, limit: int) -> list[int]:
        least, width, step = self._run_head()
        values = [least] * n
        if width:
            groups = (self._bits(min(_GROUP, n - start), width) for start in range(0, n, _GROUP))
            values = [least + above * step for group in groups for above in group]
        if values and (least <= -limit or max(values) >= limit):
            raise BlockInvalid("a reading is too large")
        return values

    def skip_run(self, n: int) -> None:
        body, at = self._body, self.at
        try:
            while body[at] >= 0x80:  # the least
                at += 1
            width = body[at + 1]
            at += 2
            if width:
                while body[at] >= 0x80:  # the step
                    at += 1
                at += 1 + (n * width + 7) // 8
        except IndexError:
            raise BlockInvalid(_TOO_SHORT) from None
        if at > len(body):
            raise BlockInvalid(_TOO_SHORT)
        self.at = at

    def _run_head(self) -> tuple[int, int, int]:
        coded, width = self.varint(), self.byte()
        if width > _MAX_WIDTH:
            raise BlockInvalid(f"an integer has at most {_MAX_WIDTH} bits, not {width}")
        least = coded >> 1 if coded & 1 == 0 else -((coded + 1) >> 1)
        return least, width, self.varint() if width else 1

    def _bits(self, n: int, width: int) -> list[int]:
        bits = int.from_bytes(self.take((n * width + 7) // 8), "little")
        if bits >> n * width:
            raise BlockInvalid("a run has bits beyond its last integer")
        low = (1 << width) - 1
        return [bits >> shift & low for shift in range(0, n * width, width)]
