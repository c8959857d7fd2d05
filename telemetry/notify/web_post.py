"""A POST that comes to an end, whatever the other side does with it: who waits for it has others to see to. Called by send.py."""

from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

LONGEST_SECONDS = 20.0  # of an answer's head, of which a byte may come now and then
_SILENT_SECONDS = 10.0  # of connecting, and of each wait for a byte


class PostFailed(Exception):
    """It was not taken; the text says why."""


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Send it, and wait for an answer that says that it was taken. `url` is of http or https. Raises PostFailed."""
    try:
        with _opener.open(Request(url, body, headers), timeout=_SILENT_SECONDS):  # noqa: S310 — http(s) by targets.py
            pass
    except HTTPError as error:
        raise PostFailed(f"answered {error.code} {_printable(error.reason)}") from error
    except (URLError, OSError, ValueError) as error:
        raise PostFailed(f"cannot be reached: {getattr(error, 'reason', error)}") from error
    except HTTPException as error:
        raise PostFailed(f"what answers there speaks no HTTP: {type(error).__name__}: {_printable(error)}") from error


def _printable(foreign: object) -> str:
    """Return a stranger's words as the log can keep them: PostgreSQL's text cannot hold a NUL."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(foreign))


class _NoRedirect(HTTPRedirectHandler):
    """A POST that is redirected arrives as a GET without its body: that is no delivery."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Connection(HTTPConnection):
    def getresponse(self) -> HTTPResponse:
        return _in_time(self.sock, super().getresponse)


class _TlsConnection(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:
        return _in_time(self.sock, super().getresponse)


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_TlsConnection, req)


_opener = build_opener(_NoRedirect, _Http, _Https)


def _in_time(connection: socket, answer: Callable[[], HTTPResponse]) -> HTTPResponse:
    """Return the answer whose head has come; hangs up where that takes too long. Raises TimeoutError."""
    is_over, words = Event(), f"no whole answer within {LONGEST_SECONDS:g} s"

    def hang_up() -> None:
        is_over.set()
        with suppress(OSError):  # it had ended
            connection.shutdown(SHUT_RDWR)

    end = Timer(LONGEST_SECONDS, hang_up)
    end.start()
    try:
        found = answer()
    except (OSError, HTTPException, ValueError):
        if is_over.is_set():
            raise TimeoutError(words) from None
        raise
    finally:
        end.cancel()
    if is_over.is_set():  # a head that was cut off is one to http.client
        found.close()
        raise TimeoutError(words)
    return found
