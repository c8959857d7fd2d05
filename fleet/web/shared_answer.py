"""One answer for all who ask the same in the same second: hundreds of open tabs cost little more than one.

For views whose answer follows from the address and the newest state alone, whoever asks, and for what such answers are made
of. It is kept in the process; who asks while it is being made waits for it. Only answers with status 200 are kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import Any, Generic, TypeVar

from django.http import HttpRequest, HttpResponse

_MOST = 64  # addresses a view keeps: clusters times ranges, as people look at them

View = Callable[[HttpRequest], HttpResponse]


@dataclass(slots=True)
class _Kept:
    lock: Lock = field(default_factory=Lock)
    until: float = 0.0  # monotonic
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Made = TypeVar("Made")


class MadeOnce(Generic[Made]):
    """What takes long to make and is the same for whoever asks: made anew once in so many seconds, when it is asked for."""

    def __init__(self, seconds: float, make: Callable[[], Made]) -> None:
        self._seconds, self._make, self._lock = seconds, make, Lock()
        self._kept: tuple[float, Made] | None = None
        _things.append(self)

    def __call__(self) -> Made:
        with self._lock:
            if self._kept is None or time.monotonic() >= self._kept[0]:
                made = self._make()
                self._kept = time.monotonic() + self._seconds, made
            return self._kept[1]

    def forget(self) -> None:
        with self._lock:
            self._kept = None


_every: list[dict[str, _Kept]] = []
_things: list[MadeOnce[Any]] = []


def shared(seconds: float) -> Callable[[View], View]:
    """Return a decorator with which a view is asked once in so many seconds for each address."""

    def decorate(view: View) -> View:
        kept: dict[str, _Kept] = {}
        _every.append(kept)

        @wraps(view)
        def answer(request: HttpRequest) -> HttpResponse:
            if len(kept) > _MOST:
                kept.clear()
            own = kept.setdefault(request.get_full_path(), _Kept())
            with own.lock:
                if time.monotonic() >= own.until:
                    made = view(request)
                    if made.status_code != 200:
                        return made
                    own.content, own.headers = made.content, dict(made.items())
                    own.until = time.monotonic() + seconds
                return HttpResponse(own.content, headers=own.headers)

        return answer

    return decorate


def forget() -> None:
    """Forget all that is kept: what tests change is seen at once."""
    for kept in _every:
        kept.clear()
    for thing in _things:
        thing.forget()
