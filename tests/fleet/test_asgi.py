"""Requests and the threads that answer them."""

import asyncio
import json
import threading
import time
from contextlib import ExitStack
from itertools import repeat

import pytest
from django.core.signals import request_finished

from fleet.asgi import Handler
from fleet.web.request_threads import KEPT, RequestThreads

NOTHING = ({"type": "http.request", "body": b""},)


async def answered(application, path, brought=NOTHING):
    """Return what the application sends for a GET that brings these messages."""
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    sent, asked = [], iter(brought)

    async def receive():
        return next(asked, None) or await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await application(scope, receive, send)
    return sent


@pytest.fixture
def finishing_threads():
    found = []

    def note(**_):
        found.append(threading.get_ident())

    request_finished.connect(note)
    yield found
    request_finished.disconnect(note)


def idle_after(threads, n):
    deadline = time.monotonic() + 60
    while threads.n_idle != n and time.monotonic() < deadline:
        time.sleep(0.001)
    return threads.n_idle


@pytest.fixture
def application():
    """Return one with threads that nobody used before."""
    return Handler()


def test_a_request_is_answered(application):
    start, body = asyncio.run(answered(application, "/healthz"))

    assert (start["status"], body["more_body"]) == (200, False)


def test_requests_after_one_another_are_answered_in_one_thread(application, finishing_threads):
    asyncio.run(answered(application, "/healthz"))
    assert idle_after(application.threads, 1) == 1
    asyncio.run(answered(application, "/healthz"))

    assert len(finishing_threads) == 2
    assert len(set(finishing_threads)) == 1
    assert finishing_threads[0] != threading.get_ident()


def test_what_django_does_at_the_start_of_a_request_is_done_once_in_its_thread(monkeypatch, finishing_threads):
    began = []
    monkeypatch.setattr("fleet.asgi._AT_START", (lambda: began.append(threading.get_ident()),))

    asyncio.run(answered(Handler(), "/healthz"))

    assert began == finishing_threads


def test_requests_at_the_same_time_have_a_thread_each():
    threads = RequestThreads()

    with threads.one() as first, threads.one() as second:
        assert first.submit(threading.get_ident).result() != second.submit(threading.get_ident).result()


def test_a_thread_is_handed_on_only_once_it_has_nothing_more_to_do():
    threads, go_on = RequestThreads(), threading.Event()

    with threads.one() as busy:
        busy.submit(go_on.wait)

    assert threads.n_idle == 0
    go_on.set()
    assert idle_after(threads, 1) == 1


def test_after_a_rush_few_threads_stay():
    threads = RequestThreads()

    with ExitStack() as stack:
        rush = [stack.enter_context(threads.one()) for _ in range(KEPT + 3)]
        started = [each.submit(threading.current_thread).result() for each in rush]

    assert idle_after(threads, KEPT) == KEPT
    deadline = time.monotonic() + 60
    while sum(thread.is_alive() for thread in started) > KEPT and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sum(thread.is_alive() for thread in started) == KEPT


def test_a_body_without_end_is_refused_and_read_no_further(application, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    endless = repeat({"type": "http.request", "body": b"a" * 300, "more_body": True})

    start, body = asyncio.run(answered(application, "/login/", endless))

    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (413, "too_large")
    assert (b"Connection", b"close") in start["headers"]


def test_a_body_that_is_as_long_as_may_be_is_read(application, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    pieces = [{"type": "http.request", "body": b"a" * 500, "more_body": more} for more in (True, False)]

    start, _ = asyncio.run(answered(application, "/healthz", pieces))

    assert start["status"] == 200
