"""How much of a request's head is taken in, by the web server as it is started."""

import socket
from contextlib import contextmanager
from threading import Thread

import pytest
import uvicorn

from fleet.up import processes
from fleet.web.head_limit import MOST_BYTES

PIECE = 16_384
FOLLOWING = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"


async def echo(scope, receive, send):
    """Answer with the path, and with how long the body was."""
    n, more = 0, True
    while more:
        message = await receive()
        n, more = n + len(message.get("body", b"")), message.get("more_body", False)
    body = f"{scope['path']} {n}\n".encode()
    head = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def protocol() -> str:
    """Return the protocol that the web's command names."""
    (argv,) = (child.argv for child in processes.server_children("redis://127.0.0.1:1/0") if child.name == "web")
    return argv[argv.index("--http") + 1]


@pytest.fixture(scope="module")
def address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(echo, http=protocol(), lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


@contextmanager
def connected(address):
    with socket.create_connection(address, timeout=60) as connection, connection.makefile("rb") as answer:
        yield connection, answer


def lines_of(answer, last: bytes) -> list[bytes]:
    """Return what is answered up to a line."""
    found = []
    while (line := answer.readline()) and line != last:
        found.append(line)
    return [*found, line]


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_refused(address, begin):
    piece = b"X: " + b"a" * (PIECE - 5) + b"\r\n" if begin.endswith(b"\n") else b"a" * PIECE
    n = 0
    with connected(address) as (connection, answer):
        connection.sendall(begin)
        try:
            while n < 1000:
                connection.sendall(piece)
                n += 1
        except ConnectionError:
            pass  # it hung up
        assert n < 1000
        assert answer.readline() in {b"HTTP/1.1 400 Bad Request\r\n", b""}  # "" where the hanging up was quicker


def test_a_long_head_that_ends_is_answered(address):
    with connected(address) as (connection, answer):
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * (MOST_BYTES - 1000) + b"\r\n\r\n")
        assert lines_of(answer, b"/long 0\n")[-1] == b"/long 0\n"


def test_a_body_may_be_longer_than_a_head_and_another_request_follows(address):
    n = 4 * MOST_BYTES
    with connected(address) as (connection, answer):
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n + b"a" * n)
        assert lines_of(answer, b"/body %d\n" % n)[0] == b"HTTP/1.1 200 OK\r\n"
        for _ in range(3):
            connection.sendall(FOLLOWING)
            assert lines_of(answer, b"/after 0\n")[0] == b"HTTP/1.1 200 OK\r\n"
