"""Joining a fleet with a one-time token, and putting a new key in the place of the old. Called by `__main__`.

The new key lies aside before the server hears of it, and stays there until the server's answer is on the disk: whatever
is lost on the way, the same key asks again, and the server answers again. Until then the old key signs, which the server
believes until it hears the new one (telemetry/receiving/authentic.py): so a rotation may break off anywhere, for any time.
"""

import json
import logging
import os
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from telemetry.agent import membership as memberships
from telemetry.agent import private_file
from telemetry.agent.backends.identity import machine_id, stable_uuid
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey
from telemetry.agent.keys import NAME as KEY_NAME
from telemetry.agent.membership import Membership
from telemetry.agent.server_call import CallFailed, post
from telemetry.agent.version import version
from telemetry.message.envelope import fingerprint
from telemetry.message.wire import HOST_NAME, VERSION

logger = logging.getLogger(__name__)

PATH = "/api/v1/join"
JOIN_CONTEXT = b"stepwatt join 1\0"
ROTATE_CONTEXT = b"stepwatt rotate 1\0"
CLOCK_MS = 60_000
RETRY_SECONDS = 60.0
REFUSED_SECONDS = 3600.0  # until the server is asked again that said no: it tells people each time
_LOCK = "keys.lock"
AGENT_LOCK = "lock"  # held by app.run
Warn = Callable[[str], None]


def join(
    directory: Path, server_url: str, token: str, server_key: str, *, ca_file: str = "", warn: Warn = logger.warning
) -> Membership:
    """Join, and return the membership, which is on the disk then. Raises ConfigInvalid with what to do, OSError.

    `server_key` is the fingerprint of the server's key ("SHA256:…"). A host that had joined gets a new key.
    """
    with _no_agent_running(directory), private_file.alone(directory / _LOCK):
        key = HostKey.load_or_create(directory, JOINING_NAME)
        body = {
            "token": token,
            "public_key": b64encode(key.public_bytes).decode(),
            "machine": machine_digest(directory),
            "wire_version": VERSION,
            "agent_version": version(),
        }
        asked_ms = _now_ms()
        answer = post(server_url, PATH, body, ca_file)
        public_key = _bytes(answer, "server_public_key")
        if fingerprint(public_key) != server_key:
            raise ConfigInvalid(
                f"{server_url} has the key {fingerprint(public_key)}, expected {server_key}: either the command is of another "
                "server, or somebody stands between; nothing was changed here"
            )
        text = _verified(answer, public_key, key.public_bytes)
        _compare_clocks(text, asked_ms, warn)
        _compare_versions(text, server_url, warn)
        joined = _membership(text, server_url.rstrip("/"), public_key, key.public_bytes, ca_file)
        # A rotation that was broken off is void; the key that was meant for it may be what others know.
        (directory / NEXT_NAME).unlink(missing_ok=True)
        memberships.commit(directory, joined, JOINING_NAME)
    return joined


def rotate_key(directory: Path) -> Membership:
    """Give this host a new key, signed by the old one; a running agent takes it up by itself. Raises as `join` does."""
    _refuse_another_user(directory)
    with private_file.alone(directory / _LOCK):
        present = _settled(directory)
        if not present.server_url:
            raise ConfigInvalid(
                f"this is the server's own agent: for a new key stop the server, remove {directory / KEY_NAME}, and start it"
            )
        return _rotate(directory, present)


def finish(directory: Path) -> None:
    """Bring a rotation to its end that was broken off, now or while the agent runs. Called at each start.

    Tries now, and on a thread from then on, whenever a next key lies there. Raises NotJoined, ConfigInvalid.
    """
    with private_file.alone(directory / _LOCK):
        present = _settled(directory)
    if present.server_url:
        pause = _finish_once(directory)
        threading.Thread(target=_keep_finishing, args=(directory, pause), name="rotate", daemon=True).start()


def machine_digest(directory: Path) -> str:
    """Return what names this machine to the server: a digest, since machine-id(5) must not leave the machine."""
    return stable_uuid(machine_id(directory), "machine", "").replace("-", "")


@contextmanager
def _no_agent_running(directory: Path) -> Iterator[None]:
    """An agent that runs would go on under its old name with the new key."""
    try:
        with private_file.alone(directory / AGENT_LOCK, is_patient=False):
            yield
    except BlockingIOError:
        raise ConfigInvalid(f"an agent runs in {directory}: stop it, join, and start it again") from None


def _keep_finishing(directory: Path, pause: float) -> None:
    while True:
        time.sleep(pause)
        try:
            pause = _finish_once(directory)
        except Exception:  # the thread's outermost loop: what nobody thought of must not end it
            logger.exception("the key's rotation is not finished")


def _finish_once(directory: Path) -> float:
    """Finish a rotation, if one waits, and return how many seconds to wait before looking again."""
    if not (directory / NEXT_NAME).exists():
        return RETRY_SECONDS
    try:
        with private_file.alone(directory / _LOCK):
            present = _settled(directory)
            if (directory / NEXT_NAME).exists():  # else a command was quicker: no second rotation
                _rotate(directory, present)
    except CallFailed as error:
        logger.warning("the key's rotation is not finished: %s", error)
        return REFUSED_SECONDS if error.is_refusal else RETRY_SECONDS
    except ConfigInvalid as error:
        logger.warning("the key's rotation is not finished: %s; say stepwatt-agent rotate-key to try again", error)
        return REFUSED_SECONDS
    except OSError as error:
        logger.warning("the key's rotation is not finished: %s", error)
    else:
        logger.info("the key's rotation is finished")
    return RETRY_SECONDS


def _settled(directory: Path) -> Membership:
    """Return the membership, with the key that belongs to it in its place. To be called under the lock."""
    present = memberships.load(directory)
    memberships.settle(directory, present)
    return present


def _refuse_another_user(directory: Path) -> None:
    """A key that another user wrote, such as root, is one that the agent cannot read."""
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        raise ConfigInvalid(f"{directory} belongs to user {owner}: say stepwatt-agent rotate-key as that user")


def _rotate(directory: Path, present: Membership) -> Membership:
    """Ask the server, and become what it says. To be called under the lock."""
    old = HostKey.load(directory)
    if old is None:
        raise ConfigInvalid(f"{directory}: the host's key is missing; join again with a new token (manage.py add_host)")
    new = HostKey.load_or_create(directory, NEXT_NAME)
    answer = post(present.server_url, PATH, _rotation(directory, present.host, old, new), present.server_ca)
    if _bytes(answer, "server_public_key") != present.server_public_key:
        raise ConfigInvalid(
            f"{present.server_url} has another key than when this host joined; nothing was changed here"
        )
    text = _verified(answer, present.server_public_key, new.public_bytes)
    fields = _membership(text, present.server_url, present.server_public_key, new.public_bytes, present.server_ca)
    renewed = replace(fields, host=present.host)
    memberships.commit(directory, renewed, NEXT_NAME)
    return renewed


def _rotation(directory: Path, host: str, old: HostKey, new: HostKey) -> dict[str, Any]:
    at_ms = _now_ms()
    signed = ROTATE_CONTEXT + host.encode() + b"\0" + new.public_bytes + b"\0" + str(at_ms).encode()
    return {
        "host": host,
        "public_key": b64encode(new.public_bytes).decode(),
        "machine": machine_digest(directory),
        "at_ms": at_ms,
        "signature": b64encode(old.private.sign(signed)).decode(),
    }


def _verified(answer: dict[str, Any], server_public_key: bytes, own_public_key: bytes) -> dict[str, Any]:
    """Return the membership's fields. Raises ConfigInvalid where the server's key did not sign them for this host's key."""
    text = answer.get("membership")
    if not isinstance(text, str):
        raise ConfigInvalid("the server's answer holds no membership; is it an older version?")
    signed = JOIN_CONTEXT + own_public_key + b"\0" + text.encode()
    try:
        Ed25519PublicKey.from_public_bytes(server_public_key).verify(_bytes(answer, "signature"), signed)
        fields = json.loads(text)
    except (InvalidSignature, ValueError) as error:
        raise ConfigInvalid(
            "the server's answer is not signed by its key: somebody stands between; nothing was changed"
        ) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("server_time_ms"), int):
        raise ConfigInvalid("the server's membership cannot be read; is it another version?")
    return fields


def _membership(
    fields: dict[str, Any], server_url: str, server_public_key: bytes, public_key: bytes, ca_file: str
) -> Membership:
    host, broker_url = fields.get("host"), fields.get("broker_url")
    if not isinstance(host, str) or not HOST_NAME.fullmatch(host) or not isinstance(broker_url, str):
        raise ConfigInvalid("the server's membership names no host or no broker; is it another version?")
    cluster = str(fields.get("cluster", ""))
    return Membership(host, cluster, broker_url, server_url, server_public_key, public_key, ca_file)


def _compare_clocks(fields: dict[str, Any], asked_ms: int, warn: Warn) -> None:
    now_ms = _now_ms()
    server_ms = fields["server_time_ms"]
    off_ms = now_ms - server_ms if server_ms > now_ms else max(0, asked_ms - server_ms)
    if abs(off_ms) > CLOCK_MS:
        way = "behind" if off_ms < 0 else "ahead of"
        warn(
            f"this machine's clock is {abs(off_ms) / 1000:.0f} s {way} the server's: set it, or its orders will be refused"
        )


def _compare_versions(fields: dict[str, Any], server_url: str, warn: Warn) -> None:
    theirs = fields.get("wire_version")
    if isinstance(theirs, int) and theirs < VERSION:
        warn(
            f"the server reads messages up to version {theirs}, this agent sends {VERSION}: "
            f"install the agent that {server_url}/dist/ offers"
        )


def _bytes(answer: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(answer[name], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigInvalid(f"the server's answer has no {name}; is it another version?") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
