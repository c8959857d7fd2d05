"""A gzip body joined from pieces that were compressed one by one, so that a piece which stays is not compressed again.

Called by scrape.py. One stream with one header and one checksum: a row of gzip members would be as valid, but curl,
httpx and browsers read only the first of them. Sources: RFC 1951 (blocks), RFC 1952 (header and trailer).
"""

import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_QUICK, _RAW = 1, -15  # zlib's level: the text is so alike that higher ones gain little; and no header of zlib's own
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = b"\x03\x00"  # empty
_ZEROS = memoryview(bytes(1 << 16))


class Piece(NamedTuple):
    """A part of a body: deflate blocks up to a byte's end, none of them the last; checksum and length of what they hold."""

    blocks: bytes
    checksum: int
    length: int


def piece_of(text: bytes) -> Piece:
    compressor = zlib.compressobj(_QUICK, zlib.DEFLATED, _RAW)
    return Piece(compressor.compress(text) + compressor.flush(zlib.Z_FULL_FLUSH), zlib.crc32(text), len(text))


def gzip_of(pieces: Iterable[Piece]) -> bytes:
    """Return the compressed body that holds the pieces' texts one after the other."""
    parts, checksum, length = [_HEADER], 0, 0
    for piece in pieces:
        parts.append(piece.blocks)
        checksum = _checksum_of_both(checksum, piece)
        length += piece.length
    return b"".join((*parts, _LAST_BLOCK, struct.pack("<II", checksum, length & 0xFFFFFFFF)))


def _checksum_of_both(before: int, piece: Piece) -> int:
    """Return the CRC of both texts together, without the texts.

    A CRC is linear: the difference that the text before makes is the difference that it makes before as many zeros.
    """
    return _through_zeros(before, piece.length) ^ _of_zeros(piece.length) ^ piece.checksum


def _through_zeros(checksum: int, length: int) -> int:
    whole, rest = divmod(length, len(_ZEROS))
    for _ in range(whole):
        checksum = zlib.crc32(_ZEROS, checksum)
    return zlib.crc32(_ZEROS[:rest], checksum)


@lru_cache(maxsize=4096)
def _of_zeros(length: int) -> int:
    return _through_zeros(0, length)
