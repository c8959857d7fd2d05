"""How long a login takes: the form is sent as a browser sends it, again and again. Called by the fleet's bench."""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.cookies import SimpleCookie
from threading import Event, Thread
from typing import Any
from urllib.parse import urlencode

from telemetry.bench.figure import BenchFailed
from telemetry.bench.peer import Peer

PATH, EVERY_SECONDS = "/login/", 10.0
_USER = "bench"


class Logins:
    """A user of the server who logs in. `calls` are own_store's functions."""

    def __init__(self, web: Peer, calls: Callable[..., Any]) -> None:
        self._web, self._password = web, secrets.token_urlsafe(12)
        calls("let_in", _USER, self._password)
        self._ending = Event()

    def times(self, n: int) -> list[float]:
        """Log in so many times; returns the seconds of each."""
        return [self._log_in() for _ in range(n)]

    @contextmanager
    def going_on(self) -> Iterator[list[float]]:
        """Log in every EVERY_SECONDS as long as the context lasts; yields the seconds, filled meanwhile.

        A login that was refused ends the context with BenchFailed.
        """
        seconds: list[float] = []
        failures: list[BenchFailed] = []
        thread = Thread(target=self._go_on, args=(seconds, failures))
        thread.start()
        try:
            yield seconds
        finally:
            self._ending.set()
            thread.join()
        if failures:
            raise failures[0]

    def _go_on(self, seconds: list[float], failures: list[BenchFailed]) -> None:
        while not self._ending.wait(EVERY_SECONDS):
            try:
                seconds.append(self._log_in())
            except BenchFailed as error:
                failures.append(error)
                return

    def _log_in(self) -> float:
        """Return how long the server took to answer the form that was sent. Raises BenchFailed."""
        connection = self._web.connect()
        try:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            answer.read()
            token = SimpleCookie(answer.headers["Set-Cookie"])["csrftoken"].value
            form = {"username": _USER, "password": self._password, "csrfmiddlewaretoken": token}
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"csrftoken={token}"}
            began = time.perf_counter()
            connection.request("POST", PATH, urlencode(form), headers)
            answer = connection.getresponse()
            answer.read()
            seconds = time.perf_counter() - began
        except (OSError, KeyError) as error:
            raise BenchFailed(f"nobody can log in: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if answer.status != 302:
            raise BenchFailed(f"the login was refused with status {answer.status}")
        return seconds


def p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
