"""How much a request may bring: what is more is not read. Called by asgi.py, before anybody is asked who he is.

Django takes in a body to its end, and puts on the disk what memory is too small for: whoever sends without end would fill it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class BodyLimit:
    """A request's `receive`, which breaks off after so many bytes of its body; `is_exceeded` then tells why."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.is_exceeded = False
        self._receive, self._left = receive, most_bytes

    async def receive(self) -> Mapping[str, Any]:
        """Return the next message, or that the client has gone where it brings too much."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_exceeded = True
            return {"type": "http.disconnect"}
        return message
