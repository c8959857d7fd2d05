"""The installation's own secrets: generated once into the data directory, mode 0600, read by every process.

Called by the settings; imports nothing of Django.
"""

import fcntl
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_KEY_BYTES = 32  # an Ed25519 seed
_NAMES = ("django_secret_key", "broker_password")
_ADDED_LATER = "server_key"  # a file of before it has the others only


def load_or_create(data_dir: Path) -> dict[str, str]:
    """Return the secrets by name; creates the file at first start, and adds the server's key to one that has none.

    The file appears whole or not at all, and what stands in it is never made anew: processes that start together agree
    on one content. Raises OSError where the directory cannot be written and ValueError where the file is damaged.
    """
    path = data_dir / "secrets.json"
    stored = _read(path)
    if _ADDED_LATER not in stored:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _alone_in(data_dir):
            stored = _new() | _read(path)  # another process may have been first: its secrets hold
            _replace(path, stored)
    return stored


def server_key(stored: dict[str, str]) -> bytes:
    """Return the seed of the key with which the server signs what it orders."""
    return b64decode(stored[_ADDED_LATER])


def _new() -> dict[str, str]:
    made = {name: secrets.token_urlsafe(48) for name in _NAMES}
    return made | {_ADDED_LATER: b64encode(secrets.token_bytes(SERVER_KEY_BYTES)).decode()}


def _read(path: Path) -> dict[str, str]:
    """Return what stands in the file, {} where there is none."""
    try:
        stored = json.loads(path.read_text())
        found = {name: str(stored[name]) for name in (*_NAMES, _ADDED_LATER) if name in _NAMES or name in stored}
        if _ADDED_LATER in found and len(b64decode(found[_ADDED_LATER], validate=True)) != SERVER_KEY_BYTES:
            raise ValueError(f"{_ADDED_LATER} has not {SERVER_KEY_BYTES} bytes")  # noqa: TRY301 — one message for all damage
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged; restore it from a backup, or remove it (signs everyone out, and every host joins again)"
        ) from error
    return found


def _replace(path: Path, stored: dict[str, str]) -> None:
    draft = path.with_name(f".secrets-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(stored, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory's own lock: it leaves no file behind and goes with the process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
