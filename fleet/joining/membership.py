"""What a host learns when it joins: where the broker is, and who it is; signed by the server's key. Called by POST join.

The agent's side is telemetry/agent/membership.py; the two share nothing but this text.
"""

import json
from datetime import datetime

from django.utils.module_loading import import_string

from fleet.joining import server_key
from fleet.models import Host

_CONTEXT = b"stepwatt join 1\0"


def text(host: Host, broker_url: str, now: datetime) -> str:
    """Return the membership as JSON; it holds the broker's password."""
    return json.dumps({
        "host": host.name,
        "cluster": host.cluster,
        "broker_url": broker_url,
        "wire_version": import_string("telemetry.message.wire.VERSION"),
        "server_time_ms": int(now.timestamp() * 1000),
    })  # fmt: skip


def signature(membership: str, public_key: bytes) -> bytes:
    """Return the server's signature over the membership of the agent that has this key."""
    return server_key.private().sign(_CONTEXT + public_key + b"\0" + membership.encode())
