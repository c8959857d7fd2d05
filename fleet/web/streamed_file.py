"""A file that is sent as it is made, piece by piece: memory holds one piece. Called by the API and the views. Imports no app."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from fleet.web.attachment import attachment


def streamed_file(request: HttpRequest, name: str, content_type: str, pieces: Iterator[bytes]) -> StreamingHttpResponse:
    """Return the answer that sends the pieces as the file `name`."""
    content = _in_thread(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(content, content_type=content_type, headers=attachment(name))


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Make each piece in the request's own thread, which has its connection to the database: the loop serves others."""
    while (piece := await sync_to_async(_following)(pieces)) is not None:
        yield piece


def _following(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
