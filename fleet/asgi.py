"""The web server's entry: `uvicorn fleet.asgi:application`."""

import gc
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from fleet.web import heap
from fleet.web.api_errors import error_response
from fleet.web.body_limit import BodyLimit, Receive
from fleet.web.request_threads import RequestThreads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
# WhiteNoise hands files over as plain iterators; that Django reads them whole before it sends them is what we want here.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

# Before they are looked through. A page of a fleet of 10,000 devices makes as many, and by default each looked through all
# that the process keeps, some 80 ms.
_NEW_OBJECTS = 20_000
_AT_START = (reset_queries, close_old_connections)

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Handler(ASGIHandler):
    """Django's handler, with one journey into a thread for each request, and no thread or connection made for it.

    By itself Django goes there and back for each middleware, and makes a thread with a database connection each time: that
    took longer than most answers do.
    """

    chunk_size = 2**24  # with Django's 64 KiB the event loop turned 50 times for a long series, and copied it twice

    def __init__(self) -> None:
        self.threads = RequestThreads()
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """All middleware and views here are synchronous: they run one after another in the request's thread."""
        super().load_middleware(is_async=False)
        chain: Callable[[HttpRequest], HttpResponseBase] = self._middleware_chain  # type: ignore[has-type]  # Django's, untyped
        self._middleware_chain = sync_to_async(_begun(chain), thread_sensitive=True)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served here, not {scope['type']}")
        body = BodyLimit(receive, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        with self.threads.one() as thread:
            async with ThreadSensitiveContext(executor=thread):
                await self.handle(scope, body.receive, send)
        if body.is_exceeded:
            await self._refuse(send)

    async def _refuse(self, send: Send) -> None:
        """Answer as the API does to a body that says beforehand how long it is, and hear no more of it."""
        answer = error_response(413, "too_large", "the request's body is too large")
        answer.headers["Connection"] = "close"
        await self.send_response(answer, send)


def _begun(chain: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Return the chain behind what Django does at a request's start, which as the signal's receivers is a journey of its own."""
    for begin in _AT_START:
        request_started.disconnect(begin)

    def answered(request: HttpRequest) -> HttpResponseBase:
        for begin in _AT_START:
            begin()
        return chain(request)

    return answered


heap.keep()
django.setup(set_prefix=False)
application = Handler()
import_module(settings.ROOT_URLCONF)  # pages and API, which Django would load with the first request
gc.collect()
gc.freeze()  # what is loaded lives as long as the process: the collector need not look through it
gc.set_threshold(_NEW_OBJECTS, 20, 20)
