"""The installation's own secrets: generated once into the data directory, mode 0600, read by every process.

Called by the settings and the supervisor; imports nothing of Django.
"""

import json
import os
import secrets
from pathlib import Path

_NAMES = ("django_secret_key", "broker_password")


def load_or_create(data_dir: Path) -> dict[str, str]:
    """Return the secrets by name; creates the file at first start.

    The file appears whole or not at all: it is written aside and linked into place, so that two processes that
    start together agree on one content. Raises OSError where the directory cannot be written and ValueError
    where the file is damaged.
    """
    path = data_dir / "secrets.json"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = data_dir / f".secrets-{os.getpid()}-{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({name: secrets.token_urlsafe(48) for name in _NAMES}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first: its secrets hold
        finally:
            draft.unlink()
    try:
        stored = json.loads(path.read_text())
        return {name: str(stored[name]) for name in _NAMES}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged; restore it from a backup, or remove it (signs everyone out)") from error
