"""One question to the server's API, by the standard library, with time and size limits. Called by join.py only.

Every way in which it can fail is one line that says what was asked, what came back, and what to do.
"""

import json
import socket
import ssl
from http.client import HTTPException
from typing import Any, Final
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.version import version

TIMEOUT_SECONDS = 15.0
CLOCK_CODE = "clock"  # the API's word for a clock that is off: no refusal, as clocks are set
_MAX_ANSWER_BYTES: Final = 65_536


class CallFailed(ConfigInvalid):
    """There is no answer to work with. `is_refusal` where the server said no, and would say so again in a while."""

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class _NoRedirect(request.HTTPRedirectHandler):
    """A redirected POST would be sent again as a GET; whoever redirects gets no token either."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(server_url: str, path: str, body: dict[str, Any], ca_file: str = "") -> dict[str, Any]:
    """Return the JSON object with which the server answers. Raises CallFailed."""
    url = server_url.rstrip("/") + path
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise CallFailed(f"{server_url}: expected the server's address, such as https://stepwatt.example.org")
    asked = request.Request(  # noqa: S310 — the scheme was checked
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "User-Agent": f"stepwatt-agent/{version()}"},
    )
    opener = request.build_opener(_NoRedirect(), request.HTTPSHandler(context=_tls(ca_file)))
    try:
        with opener.open(asked, timeout=TIMEOUT_SECONDS) as answer:
            return _object(answer.read(_MAX_ANSWER_BYTES + 1), url)
    except HTTPError as error:
        raise _refusal(error, url) from error
    except URLError as error:
        raise CallFailed(f"{url}: the server was not reached ({_words(error.reason)})") from error
    except (OSError, HTTPException) as error:
        raise CallFailed(f"{url}: the server did not answer to the end ({_words(error)}); try again") from error


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise CallFailed(f"--ca {ca_file}: expected a readable file of certificates, PEM ({_words(error)})") from error


def _refusal(error: HTTPError, url: str) -> CallFailed:
    """Return the API's own words, which stand in `error.message`."""
    if error.code in {301, 302, 303, 307, 308}:
        place = error.headers.get("Location", "elsewhere")
        return CallFailed(f"{url}: the server sends us to {place[:200]}; give the address without a detour")
    try:
        told = json.loads(error.read(_MAX_ANSWER_BYTES))["error"]
        code, message = told.get("code"), str(told["message"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return CallFailed(f"{url}: answered with status {error.code}; is this the address of a Stepwatt server?")
    is_refusal = error.code < 500 and error.code != 429 and code != CLOCK_CODE
    return CallFailed(f"{url}: {message[:500]}", is_refusal=is_refusal)


def _object(raw: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(raw) if len(raw) <= _MAX_ANSWER_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CallFailed(f"{url}: the answer is no JSON object; is this the address of a Stepwatt server?")
    return found


def _words(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}; name the authority's file by --ca"
    if isinstance(reason, TimeoutError | socket.timeout):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
