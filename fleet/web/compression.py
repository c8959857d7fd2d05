"""Compresses what is sent to browsers: pages, fragments and data each time, static files once for the process's life.

The pages' own scripts lose their comments and line ends on the way, a quarter of what they are. A middleware, named in the
settings before WhiteNoise, which has no compressed files to serve from a checkout. Whether gzip is taken, /metrics asks too.
"""

import gzip
import re
from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.text import compress_string
from rjsmin import jsmin

_TYPES = ("text/", "application/javascript", "application/json", "image/svg+xml")
_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d*)?)")
_OWN_SCRIPTS = f"{settings.STATIC_URL}js/"  # of others some come without comments, and some must keep theirs
_LEAST_BYTES = 500  # below this a header's worth is all that is won
_DATA_LEVEL, _STATIC_LEVEL = 4, 9
_RANDOM_BYTES = (
    100  # of a page's length: what an attacker makes it say must not be told by how well it compresses (BREACH)
)

Handler = Callable[[HttpRequest], HttpResponseBase]


class CompressionMiddleware:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._kept: dict[tuple[str, str], bytes] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self._handler(request)
        kind = answer.headers.get("Content-Type", "")
        decides_itself = "Accept-Encoding" in answer.headers.get("Vary", "")
        if answer.status_code != 200 or decides_itself or not kind.startswith(_TYPES):
            return answer
        patch_vary_headers(answer, ("Accept-Encoding",))
        if request.method != "GET" or not takes_gzip(request):
            return answer
        if isinstance(answer, StreamingHttpResponse):
            return self._of_file(request.path, answer) if answer.has_header("Last-Modified") else answer
        if isinstance(answer, HttpResponse) and len(answer.content) >= _LEAST_BYTES:
            answer.content = _compressed(answer.content, kind)
            _tell(answer, len(answer.content))
        return answer

    def _of_file(self, path: str, answer: StreamingHttpResponse) -> HttpResponseBase:
        """Return a static file compressed, which is kept as long as the file is the same."""
        key = (path, answer.headers["Last-Modified"])
        body = self._kept.get(key)
        if body is None:
            whole = b"".join(answer)
            if path.startswith(_OWN_SCRIPTS):
                whole = jsmin(whole)
            body = self._kept[key] = _gzip(whole, _STATIC_LEVEL)
        answer.close()
        compressed = HttpResponse(body, headers=dict(answer.headers))
        _tell(compressed, len(body))
        return compressed


def takes_gzip(request: HttpRequest) -> bool:
    """Tell whether Accept-Encoding takes gzip: by its name, else by `*`, with a weight above 0."""
    weights = dict(map(_weighted, request.headers.get("Accept-Encoding", "").lower().split(",")))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weighted(part: str) -> tuple[str, float]:
    """Return a coding and its weight: 1 where none is told, 0 where it cannot be read."""
    coding, _, said = part.partition(";")
    weight = _WEIGHT.fullmatch(said.strip())
    return coding.strip(), (float(weight[1]) if weight else 0.0) if said.strip() else 1.0


def _compressed(body: bytes, kind: str) -> bytes:
    if kind.startswith("text/html"):
        return compress_string(body, max_random_bytes=_RANDOM_BYTES)
    return _data(body) if kind.startswith("application/json") else _gzip(body, _DATA_LEVEL)


@lru_cache(maxsize=8)
def _data(body: bytes) -> bytes:
    """Answers that are shared (shared_answer.py) go out as the same bytes again and again: they are compressed once."""
    return _gzip(body, _DATA_LEVEL)


def _gzip(body: bytes, level: int) -> bytes:
    return gzip.compress(body, level, mtime=0)


def _tell(answer: HttpResponseBase, n_bytes: int) -> None:
    answer.headers["Content-Length"] = str(n_bytes)
    answer.headers["Content-Encoding"] = "gzip"
    if etag := answer.headers.get("ETag"):
        answer.headers["ETag"] = etag if etag.startswith("W/") else f"W/{etag}"
