"""One answer for all who ask the same in the same second: hundreds of open tabs cost little more than one.

For views whose answer follows from the address and the newest state alone, whoever asks. It is kept in the process; who asks
while it is being made waits for it. Only answers with status 200 are kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock

from django.http import HttpRequest, HttpResponse

_MOST = 64  # addresses a view keeps: clusters times ranges, as people look at them

View = Callable[[HttpRequest], HttpResponse]


@dataclass(slots=True)
class _Kept:
    lock: Lock = field(default_factory=Lock)
    until: float = 0.0  # monotonic
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


_every: list[dict[str, _Kept]] = []


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
