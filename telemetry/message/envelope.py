"""The signed envelope of every message between a host and the server: Ed25519 over all that it says. No Django.

A host's key signs what it sends, bound to its name and to the task that reads it; the server's key signs what it orders,
with a nonce and an expiry besides. The broker's password alone can neither forge telemetry nor start a job.
"""

import hashlib
import secrets
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from telemetry.message.fields import shown
from telemetry.message.wire import HOST_NAME, MAX_BYTES, MessageInvalid, integer, matching, read_message

VERSION = 1
MAX_ENVELOPE_BYTES = MAX_BYTES + 1_000
NONCE_BYTES = 16
_MAX_FIELDS = 16
_KEYS_KEPT = 16_384
_CONTEXT: Final = b"stepwatt envelope 1"


class SignatureInvalid(MessageInvalid):
    """The message was not signed by the key that it should be signed by."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it arrived: nothing in it is to be believed before `verify`.

    `nonce` and `expires_ms` (UTC milliseconds) belong to orders; a host's own messages have b"" and 0.
    """

    host: str
    body: bytes
    nonce: bytes
    expires_ms: int
    signature: bytes

    def verify(self, task: str, public_key: bytes) -> bytes:
        """Return the body. Raises SignatureInvalid where another key signed, or another task's message was meant."""
        signed = _signed(task, self.host, self.nonce, self.expires_ms, self.body)
        try:
            _public_key(public_key).verify(self.signature, signed)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalid(f"signature: {task} for {self.host} is not signed by the expected key") from error
        return self.body


@lru_cache(maxsize=_KEYS_KEPT)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    """A host's key is the same with each of its messages: it is read once."""
    return Ed25519PublicKey.from_public_bytes(raw)


def seal(key: Ed25519PrivateKey, task: str, host: str, body: bytes) -> bytes:
    """Return a host's message to the server: `task` is the Celery task that reads it, `host` the sender."""
    return _sealed(key, task, host, b"", 0, body)


def seal_order(key: Ed25519PrivateKey, task: str, host: str, body: bytes, expires_ms: int) -> bytes:
    """Return the server's order to `host`, which carries it out at most once and not after `expires_ms`."""
    return _sealed(key, task, host, secrets.token_bytes(NONCE_BYTES), expires_ms, body)


def read(payload: bytes) -> Envelope:
    """Return the envelope, unverified. Raises MessageInvalid."""
    message = read_message(payload, MAX_ENVELOPE_BYTES, max_parts=1, max_length=_MAX_FIELDS)  # nobody has signed yet
    if message.get("v") != VERSION:
        raise MessageInvalid(f"v: expected an envelope of version {VERSION}, found {shown(message.get('v'))}")
    parts = {name: message.get(name) for name in ("body", "nonce", "sig")}
    if not all(isinstance(part, bytes) for part in parts.values()):
        raise MessageInvalid("body, nonce, sig: expected bytes")
    return Envelope(
        host=matching(message, "host", HOST_NAME),
        body=bytes(message["body"]),
        nonce=bytes(message["nonce"]),
        expires_ms=integer(message.get("expires"), "expires"),
        signature=bytes(message["sig"]),
    )


def fingerprint(public_key: bytes) -> str:
    """Return "SHA256:…" of a raw public key, as ssh-keygen writes fingerprints: what people compare."""
    return "SHA256:" + b64encode(hashlib.sha256(public_key).digest()).decode().rstrip("=")


def _sealed(key: Ed25519PrivateKey, task: str, host: str, nonce: bytes, expires_ms: int, body: bytes) -> bytes:
    signature = key.sign(_signed(task, host, nonce, expires_ms, body))
    message = {"v": VERSION, "host": host, "body": body, "nonce": nonce, "expires": expires_ms, "sig": signature}
    return bytes(msgpack.packb(message))


def _signed(task: str, host: str, nonce: bytes, expires_ms: int, body: bytes) -> bytes:
    """Return what is signed: every part with its length, so that no two messages have the same bytes."""
    return bytes(msgpack.packb([_CONTEXT, task, host, nonce, expires_ms, body]))
