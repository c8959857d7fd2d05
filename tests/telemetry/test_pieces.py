"""A gzip body of pieces: whatever the pieces are, it is one stream that holds their texts one after the other."""

import gzip
import subprocess
import zlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from telemetry.exposition.pieces import gzip_of, piece_of

texts = st.lists(
    st.binary(max_size=200) | st.integers(0, 200_000).map(lambda n: b"a line of text\n" * (n // 15)), max_size=5
)


@given(texts)
def test_it_reads_back_as_the_texts_in_their_order(parts: list[bytes]) -> None:
    assert gzip.decompress(gzip_of(map(piece_of, parts))) == b"".join(parts)


@given(texts)
def test_it_is_one_stream_for_readers_that_take_no_second(parts: list[bytes]) -> None:
    reader = zlib.decompressobj(31)
    assert reader.decompress(gzip_of(map(piece_of, parts))) == b"".join(parts)
    assert reader.eof
    assert reader.unused_data == b""


def test_a_piece_can_stand_in_several_bodies() -> None:
    piece = piece_of(b"again and ")
    assert gzip.decompress(gzip_of([piece, piece, piece_of(b"again")])) == b"again and again and again"


def test_gzip_itself_finds_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "body.gz"
    file.write_bytes(gzip_of([piece_of(b"a" * 100_000), piece_of(b""), piece_of(b"b")]))
    done = subprocess.run(["gzip", "--test", file], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
