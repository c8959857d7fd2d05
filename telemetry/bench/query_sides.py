"""The sides of the query bench, each with the same readings in it. Called by query.py."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from telemetry.bench import bodies, prometheus, victoria
from telemetry.bench.own_server import Server, own_server
from telemetry.bench.peer import Peer, is_installed
from telemetry.bench.query_data import Piece
from telemetry.message.wire import pack

_PASSWORD = "unused by tokens"  # noqa: S105 — of a server that lives for minutes, on the loopback


@dataclass(frozen=True, slots=True)
class Sides:
    """`web` answers with `token`. A peer that is not installed is None; so is Prometheus where nobody wants it."""

    server: Server
    web: Peer
    token: str
    victoria: Peer | None
    prometheus: Peer | None


@contextmanager
def sides(directory: Path, hosts: list[str], pieces: Iterable[Piece], *, with_prometheus: bool) -> Iterator[Sides]:
    """Yield the sides when all have taken the pieces and done their upkeep. Raises BenchFailed."""
    directory.mkdir()
    with ExitStack() as stack:
        peer = stack.enter_context(victoria.victoria(directory)) if is_installed(victoria.PROGRAM) else None
        server = stack.enter_context(own_server(directory / "own"))
        server.calls("enrol", hosts)
        is_wanted = with_prometheus and is_installed(prometheus.PROGRAM) and is_installed(prometheus.TOOL)
        file = directory / "bodies"
        with bodies.writing(file) as put:
            taken = _take(pieces, put, peer)
            if is_wanted:
                prometheus.make_blocks(directory, (line for piece in taken for line in _lines(piece)))
            else:
                for _ in taken:
                    continue
        server.calls("load", str(file))
        file.unlink()
        server.calls("maintain")
        if peer:
            peer.get("/internal/force_flush")
        third = stack.enter_context(prometheus.prometheus(directory)) if is_wanted else None
        token = server.calls("let_in", "bench", _PASSWORD)
        yield Sides(server, server.start_web(), token, peer, third)


def _take(pieces: Iterable[Piece], put: bodies.Put, peer: Peer | None) -> Iterator[Piece]:
    """Hand each piece to the store's file and to VictoriaMetrics, and yield it to whoever else wants it."""
    for piece in pieces:
        put(piece.batch.host, pack(piece.batch))
        if peer:
            body = victoria.json_body(piece.batch.host, piece.batch.times_ms, piece.values, piece.metrics)
            victoria.send(peer, victoria.JSON_PATH, [body])
        yield piece


def _lines(piece: Piece) -> Iterator[str]:
    return prometheus.openmetrics(piece.batch.host, piece.batch.times_ms, piece.values, piece.metrics)
