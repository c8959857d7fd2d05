"""The host's Ed25519 key: where it lies, and the seal that it sets under every message. Called by join, sender and start.

`host.key` is the key of now. The two others are keys that the server may know already or not: join.py finds out.
"""

import logging
import os
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.agent import private_file
from telemetry.agent.invalid import ConfigInvalid
from telemetry.message import envelope

logger = logging.getLogger(__name__)

NAME = "host.key"
NEXT_NAME = "host.key.next"  # of a rotation
JOINING_NAME = "host.key.joining"  # of a join with a token
_SEED_BYTES = 32


class HostKey:
    """One key pair; the file holds the seed in base64."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.public_bytes = private.public_key().public_bytes_raw()

    @classmethod
    def load(cls, directory: Path, name: str = NAME) -> "HostKey | None":
        """Return the key, None where there is none. Raises ConfigInvalid where it cannot be read."""
        path = directory / name
        try:
            seed = b64decode(path.read_bytes().strip(), validate=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigInvalid(f"{path}: the host's key cannot be read ({error.strerror})") from error
        except ValueError:
            seed = b""
        if len(seed) != _SEED_BYTES:
            raise ConfigInvalid(
                f"{path}: the host's key is damaged; remove the file and join again with a new token (manage.py add_host)"
            )
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load_or_create(cls, directory: Path, name: str = NAME) -> "HostKey":
        """Return the key; makes it where there is none. Raises ConfigInvalid where it is damaged, OSError."""
        found = cls.load(directory, name)
        if found is not None:
            return found
        made = cls(Ed25519PrivateKey.generate())
        private_file.write(directory / name, b64encode(made.private.private_bytes_raw()) + b"\n")
        return made


def take(directory: Path, name: str) -> None:
    """Put that key in the place of the key of now."""
    private_file.move(directory / name, directory / NAME)


class Seal:
    """Signs messages with the key of now: one that was rotated meanwhile signs what is sent from then on.

    Looks at the file's identity each time, which costs a microsecond. Raises ConfigInvalid where there is no key at first.
    """

    def __init__(self, directory: Path, host: str) -> None:
        self._directory, self._host = directory, host
        self._path = str(directory / NAME)
        self._identity = self._look()
        key = HostKey.load(directory)
        if key is None:
            raise ConfigInvalid(f"{directory / NAME}: the host's key is missing; join again (stepwatt-agent join …)")
        self._key = key

    def __call__(self, task: str, body: bytes) -> bytes:
        """Return the envelope of a message to the server's `task`."""
        identity = self._look()
        if identity != self._identity:
            self._identity = identity
            self._reload()
        return envelope.seal(self._key.private, task, self._host, body)

    def _reload(self) -> None:
        try:
            key = HostKey.load(self._directory)
        except ConfigInvalid as error:
            logger.warning("%s; the key from before signs on", error)
            return
        if key is not None and key.public_bytes != self._key.public_bytes:
            self._key = key
            logger.info("the host has a new key: %s", envelope.fingerprint(key.public_bytes))

    def _look(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)  # noqa: PTH116 — a path of pathlib is put together anew each time
        except OSError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)
