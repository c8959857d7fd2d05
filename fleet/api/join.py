"""POST join: an agent joins with its one-time token, or puts a new key in the place of its own. Called by fleet/api/api.py.

Open to anybody, so its door is narrow: few bytes, and few refusals from one address. What may be is fleet/joining/enrolment.py's.
"""

from base64 import b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from datetime import datetime
from math import ceil
from typing import Annotated

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from ninja import Field, Router, Schema
from pydantic import BeforeValidator, ConfigDict

from fleet.access import throttle
from fleet.access.auth import client_address
from fleet.joining import enrolment, membership, server_key
from fleet.joining.enrolment import ClockRefused, Identity, JoinRefused
from fleet.models import EventKind, Host
from fleet.web.api_errors import ApiError, invalid

MAX_BODY_BYTES = 4_096
_LATEST_MS = 253_402_300_799_000  # the last second of the year 9999


def door(request: HttpRequest) -> bool:
    """Let a request in before its body is looked at. Raises ApiError (400, 413, 429)."""
    try:
        said_bytes = int(request.headers.get("Content-Length") or 0)
    except ValueError:
        raise invalid("Content-Length", "expected a number of bytes") from None
    if said_bytes > MAX_BODY_BYTES or len(request.body) > MAX_BODY_BYTES:
        raise ApiError(413, "too_large", f"a join has at most {MAX_BODY_BYTES} bytes")
    wait = throttle.join_wait(client_address(request), timezone.now())
    if wait is not None:
        minutes = ceil(wait.total_seconds() / 60)
        raise ApiError(429, "too_many_tries", f"too many refused joins from this address; try again in {minutes} min")
    return True


router = Router(auth=door)


def _bytes(length: int) -> BeforeValidator:
    def read(value: object) -> bytes:
        try:
            found = a2b_base64(value, strict_mode=True) if isinstance(value, str) else b""
        except (NotBase64, ValueError):  # ValueError: letters beyond ASCII
            found = b""
        if len(found) != length:
            raise ValueError(f"expected {length} bytes in base64")
        return found

    return BeforeValidator(read)


class JoinRequest(Schema):
    r"""A first join has `token`, `wire_version` and `agent_version`; a rotation `host`, `at_ms` and `signature`.

    `signature` is the old key's, over b"stepwatt rotate 1\0" + host + b"\0" + the new key + b"\0" + at_ms in digits.
    """

    model_config = ConfigDict(extra="forbid")

    token: str = Field("", max_length=100)
    host: str = Field("", max_length=63)
    public_key: Annotated[bytes, _bytes(32)] = Field(json_schema_extra={"format": "base64"})
    machine: str = Field(pattern="^[0-9a-f]{32}$")
    wire_version: int | None = None
    agent_version: str = Field("", max_length=50, pattern=r"^[\x20-\x7e]*$")
    at_ms: int | None = Field(None, ge=0, le=_LATEST_MS)
    signature: Annotated[bytes, _bytes(64)] | None = Field(None, json_schema_extra={"format": "base64"})


class JoinAnswer(Schema):
    r"""`signature` is the server key's, over b"stepwatt join 1\0" + the agent's key + b"\0" + `membership` in UTF-8."""

    membership: str
    signature: str
    server_public_key: str


@router.post("join", response=JoinAnswer, summary="An agent joins, or rotates its key")
def join(request: HttpRequest, asked: JoinRequest) -> JoinAnswer:
    now, address = timezone.now(), client_address(request)
    try:
        host = _admitted(asked, Identity(asked.public_key, asked.machine, address, asked.agent_version), now)
    except ClockRefused as refusal:  # not counted: it is the host itself, and asks again until its clock is set
        raise ApiError(409, "clock", str(refusal), "at_ms") from refusal
    except JoinRefused as refusal:
        throttle.join_failed(address, now)
        if refusal.kind == EventKind.CLONED_KEY:
            raise ApiError(409, "key_in_use", str(refusal), "public_key") from refusal
        raise ApiError(403, "join_refused", str(refusal)) from refusal
    text = membership.text(host, settings.CELERY_BROKER_URL, now)
    return JoinAnswer(
        membership=text,
        signature=b64encode(membership.signature(text, asked.public_key)).decode(),
        server_public_key=b64encode(server_key.public_bytes()).decode(),
    )


def _admitted(asked: JoinRequest, identity: Identity, now: datetime) -> Host:
    if bool(asked.token) == bool(asked.host):
        raise invalid("token", "send either the one-time token, or the host whose key is rotated")
    if asked.host:
        if asked.at_ms is None or asked.signature is None:
            raise invalid("signature", "a rotation needs at_ms and a signature by the present key")
        return enrolment.rotate(asked.host, identity, asked.at_ms, asked.signature, now)
    versions = import_string("telemetry.decoding.received.READ_VERSIONS")
    if asked.wire_version not in versions:
        message = f"this server reads versions {versions}; install the agent that it offers (manage.py add_host)"
        raise invalid("wire_version", message)
    return enrolment.join(asked.token, identity, now)
