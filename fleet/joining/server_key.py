"""The server's Ed25519 key: it signs what hosts obey (orders, memberships), and hosts know it by its fingerprint.

Called by enrolment, the join API and telemetry/orders/host_orders.py. The seed is one of the installation's secrets.
"""

import hashlib
from base64 import b64encode
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings


def private() -> Ed25519PrivateKey:
    return _from_seed(settings.STEPWATT_SERVER_KEY)


def public_bytes() -> bytes:
    """Return the 32 bytes that hosts keep."""
    return private().public_key().public_bytes_raw()


def fingerprint() -> str:
    """Return "SHA256:…", as telemetry.message.envelope.fingerprint writes it on the host's side."""
    return "SHA256:" + b64encode(hashlib.sha256(public_bytes()).digest()).decode().rstrip("=")


@cache
def _from_seed(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)
