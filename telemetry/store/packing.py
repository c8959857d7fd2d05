"""One series of integers ↔ the fewest bytes of three ways to write it. Called by the chunks; knows no device and no time.

What a series needs is written beside its bytes: `base` is its least value, `unit` the greatest divisor of all that is above
it. The rest is either nothing (the series never moves), zstd over planes of bytes (what moves seldom, or among few values),
or pcodec (what moves at every sample). The smallest that was tried is kept.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, standalone

from telemetry.decoding.matrix import Steps
from telemetry.message.frames import Compressor, Decompressor

CONSTANT, PLANES, PLANES_OF_DIFFERENCES, PCODEC = range(4)

_LEVEL = 12  # higher ones find a five-hundredth more, in thrice the time
_SELDOM = 50  # a series that moves less than once in so many samples
_ORDERS: Final = tuple(
    ChunkConfig(compression_level=8, mode_spec=ModeSpec.classic(), delta_spec=delta)
    for delta in (DeltaSpec.no_op(), DeltaSpec.try_consecutive(1), DeltaSpec.try_consecutive(2))
)
_compressor = Compressor(_LEVEL, write_content_size=False)
_decompressor = Decompressor()

Unsigned = NDArray[np.uint64]


class Packed(NamedTuple):
    """A series as it is written: value = base + unit × what `body` says, modulo 2**64."""

    way: int
    base: int
    unit: int
    body: bytes


def pack(values: Steps) -> Packed:
    """Return the series `(n,)`, n ≥ 1, of any integers of 64 bits."""
    base = int(values.min())
    above = (values - np.int64(base)).view(np.uint64)  # modulo 2**64: the span of all integers fits
    if not above.any():
        return Packed(CONSTANT, base, 1, b"")
    unit = int(np.gcd.reduce(above))
    above = np.ascontiguousarray(above // np.uint64(unit) if unit > 1 else above)
    way, body = min(_candidates(above), key=lambda each: len(each[1]))
    return Packed(way, base, unit, body)


def _candidates(above: Unsigned) -> list[tuple[int, bytes]]:
    """Return the ways that are worth trying: above a byte for each value, zstd never finds less than pcodec."""
    signed: Steps = above.view(np.int64)
    differences = _zigzag(np.diff(signed, prepend=signed.dtype.type(0)))
    moves = np.count_nonzero(differences)
    if moves * _SELDOM < above.size:
        return [(PLANES_OF_DIFFERENCES, _compressor.compress(_planes(differences)))]
    width = _width(int(above.max()))
    narrow = above.astype(np.uint16 if width <= 2 else np.uint32 if width <= 4 else np.uint64, copy=False)
    found = [(PCODEC, standalone.simple_compress(narrow, order)) for order in _ORDERS]
    if min(len(body) for _, body in found) < above.size:
        written = ((PLANES, above), (PLANES_OF_DIFFERENCES, differences))
        found += [(way, _compressor.compress(_planes(of))) for way, of in written]
    return found


def unpack(packed: Packed, n: int) -> Steps:
    """Return the series `(n,)`. The bytes are those of `pack`: a chunk's checksum was right."""
    if packed.way == CONSTANT:
        return np.full(n, packed.base, np.int64)
    above = _above(packed, n)
    if packed.unit > 1:
        above *= np.uint64(packed.unit)
    return above.view(np.int64) + np.int64(packed.base)


def _above(packed: Packed, n: int) -> Unsigned:
    if packed.way == PCODEC:
        found: Unsigned = standalone.simple_decompress(packed.body).astype(np.uint64)
        return found
    raw = np.frombuffer(_decompressor.decompress(packed.body, max_output_size=8 * n), np.uint8)
    planes = np.zeros((n, 8), np.uint8)
    planes[:, : raw.size // n] = raw.reshape(-1, n).T
    coded: Unsigned = planes.view("<u8").reshape(n).astype(np.uint64, copy=False)
    if packed.way == PLANES:
        return coded
    differences: Steps = (coded >> np.uint64(1)).view(np.int64) ^ -(coded & np.uint64(1)).view(np.int64)
    return differences.cumsum().view(np.uint64)


def _zigzag(values: Steps) -> Unsigned:
    found: Unsigned = ((values << 1) ^ (values >> 63)).view(np.uint64)
    return found


def _planes(values: Unsigned) -> bytes:
    """Return the lowest byte of each, then the next ones, as far as any has one."""
    raw = values.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return raw[:, : _width(int(values.max()))].T.tobytes()


def _width(most: int) -> int:
    return max(1, (most.bit_length() + 7) // 8)
