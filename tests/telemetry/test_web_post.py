"""A POST comes to an end, by real servers that do their worst."""

import socket
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from telemetry.notify import web_post
from telemetry.notify.web_post import PostFailed, post


@contextmanager
def dripping(first: bytes, piece: bytes):
    """Yield the address of a server that answers with `first`, and then with a piece now and then, without end."""
    is_over = Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(first)
                while not is_over.wait(0.02):
                    connection.sendall(piece)
            except OSError:
                return  # the other side has hung up

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/alerts"
        is_over.set()
        thread.join()


@pytest.mark.parametrize(
    ("first", "piece"), [(b"", b"H"), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (b"HTTP/1.1 200 OK\r\nX: ", b"y")]
)
def test_an_answer_that_never_ends_is_no_delivery(monkeypatch, first, piece):
    monkeypatch.setattr(web_post, "LONGEST_SECONDS", 0.5)
    with dripping(first, piece) as url, pytest.raises(PostFailed, match=r"no whole answer within 0\.5 s"):
        post(url, b"{}", {})


def test_an_answer_whose_head_has_come_is_one_whatever_follows():
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"body without end") as url:
        post(url, b"{}", {})


@pytest.mark.parametrize("said", [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 204\0 \r\n\r\n"])
def test_what_speaks_no_http_is_said_so(said):
    with dripping(said, b"\r\n") as url, pytest.raises(PostFailed, match="HTTP"):
        post(url, b"{}", {})
