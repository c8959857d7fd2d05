"""Orders to hosts: signed by the server's key, put into the host's own queue. Called by training's orders and by buttons.

An agent carries an order out at most once and not after its expiry; it obeys nobody who has only the broker's password.
"""

import logging
from datetime import UTC, datetime

from celery import current_app
from kombu.exceptions import OperationalError

from fleet import server_key
from fleet.models import Host
from telemetry.envelope import seal_order
from telemetry.wire import host_queue

logger = logging.getLogger(__name__)
_PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2}


def send(task: str, host: Host, body: bytes, expires: datetime) -> bool:
    """Send `body` to the agent's task; False where the broker is not reached, and the caller may send it again later.

    Each call seals anew: the same order sent twice has two nonces, and what it asks for must bear being asked for twice.
    """
    payload = seal_order(server_key.private(), task, host.name, body, int(expires.timestamp() * 1000))
    try:
        current_app.send_task(
            task,
            [payload],
            queue=host_queue(host.name),
            # The broker may drop it then. No `expires`: by that the agent's worker would drop an order that its clock, being
            # ahead, calls expired, and nobody would hear of it; the order desk tells.
            expiration=max(0.0, (expires - datetime.now(UTC)).total_seconds()),
            argsrepr="",
            retry_policy=_PUBLISH_RETRIES,
        )
    except OperationalError:
        logger.warning("broker not reached: %s for %s was not sent", task, host.name)
        return False
    return True
