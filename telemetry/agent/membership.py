"""Which fleet this host belongs to: `membership.json` in the agent's directory, written by joining, read at each start."""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path

from telemetry.agent import private_file
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey, take
from telemetry.message.wire import HOST_NAME

NAME = "membership.json"
_KEY_BYTES = 32


class NotJoined(ConfigInvalid):
    """The host is no member of a fleet yet."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the server said when the host joined. `server_url` is "" on the server's own machine.

    `public_key` is the host's own that the server then took: with it in here, key and membership change at one moment.
    `server_ca` is the file (PEM) that the server's certificate is checked against, "" for the system's authorities.
    """

    host: str
    cluster: str
    broker_url: str
    server_url: str
    server_public_key: bytes
    public_key: bytes
    server_ca: str = ""


def load(directory: Path) -> Membership:
    """Return the membership. Raises NotJoined, or ConfigInvalid where the file is damaged."""
    path = directory / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotJoined("not joined: run `stepwatt-agent join URL --token T --server-key SHA256:…` first") from None
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _membership(json.loads(raw))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigInvalid(f"{path} is damaged ({error}); join again with a new token (manage.py add_host)") from error


def save(directory: Path, membership: Membership) -> None:
    """Write the membership in the place of what there was. Raises OSError."""
    fields = asdict(membership)
    for name in ("server_public_key", "public_key"):
        fields[name] = b64encode(fields[name]).decode()
    private_file.write(directory / NAME, json.dumps(fields, indent=1).encode() + b"\n")


def commit(directory: Path, membership: Membership, key_name: str) -> None:
    """Become the member that the server let in with the key in that file. Raises OSError.

    The moment is that of the membership's file: a crash between the two is made good by `settle`.
    """
    save(directory, membership)
    take(directory, key_name)


def settle(directory: Path, membership: Membership) -> None:
    """Finish a `commit` that a crash broke off: which key is in use, the membership says. Raises ConfigInvalid."""
    for name in (NEXT_NAME, JOINING_NAME):
        waiting = HostKey.load(directory, name)
        if waiting is not None and waiting.public_bytes == membership.public_key:
            take(directory, name)


def enrol_here(directory: Path, host: str, broker_url: str, server_public_key: bytes) -> bytes:
    """Make this machine's agent a member without a token, from the server on the same machine, which calls this.

    Returns the agent's public key; one that exists stays. Raises ConfigInvalid where the present key is damaged, OSError.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = HostKey.load_or_create(directory)
    save(directory, Membership(host, "", broker_url, "", server_public_key, key.public_bytes))
    return key.public_bytes


def _membership(fields: dict[str, str]) -> Membership:
    host = str(fields["host"])
    if not HOST_NAME.fullmatch(host):
        raise ValueError(f"host {host[:63]!r}")
    return Membership(
        host=host,
        cluster=str(fields["cluster"]),
        broker_url=str(fields["broker_url"]),
        server_url=str(fields["server_url"]),
        server_public_key=_key(fields["server_public_key"]),
        public_key=_key(fields["public_key"]),
        server_ca=str(fields.get("server_ca", "")),
    )


def _key(text: str) -> bytes:
    key = b64decode(text, validate=True)
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes")
    return key
