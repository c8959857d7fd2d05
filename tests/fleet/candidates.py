"""Machines that want to join, as their agents ask: keys of their own, and what POST join is sent."""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.test import Client

from fleet.joining import server_key
from fleet.joining.enrolment import Identity
from telemetry.message import wire

URL = "/api/v1/join"


@dataclass
class Candidate:
    """`machine` is the digest of its machine id."""

    machine: str = "0" * 32
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def identity(self) -> Identity:
        return Identity(self.public_key, self.machine)

    def join(self, token: str, client: Client | None = None, **changes: object):
        body = {
            "token": token,
            "public_key": b64encode(self.public_key).decode(),
            "machine": self.machine,
            "wire_version": wire.VERSION,
            "agent_version": "0.1.0",
        } | changes
        return (client or Client(enforce_csrf_checks=True)).post(URL, body, content_type="application/json")

    def rotation(self, host: str, new: "Candidate", at: datetime, **changes: object) -> dict[str, object]:
        """Return the request by which this key makes way for that of `new`."""
        at_ms = int(at.timestamp() * 1000)
        signed = b"stepwatt rotate 1\0" + host.encode() + b"\0" + new.public_key + b"\0" + str(at_ms).encode()
        return {
            "host": host,
            "public_key": b64encode(new.public_key).decode(),
            "machine": self.machine,
            "at_ms": at_ms,
            "signature": b64encode(self.key.sign(signed)).decode(),
        } | changes

    def rotate(self, host: str, new: "Candidate", at: datetime, **changes: object):
        body = self.rotation(host, new, at, **changes)
        return Client(enforce_csrf_checks=True).post(URL, body, content_type="application/json")

    def verified(self, answer: dict[str, str]) -> str:
        """Return the membership, once the server's signature for this key holds."""
        signed = b"stepwatt join 1\0" + self.public_key + b"\0" + answer["membership"].encode()
        server = Ed25519PublicKey.from_public_bytes(server_key.public_bytes())
        server.verify(b64decode(answer["signature"]), signed)
        return answer["membership"]
