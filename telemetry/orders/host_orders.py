"""Orders to hosts: signed by the server's key, put into the host's own queue. Called by training's orders and by buttons.

An agent carries an order out at most once and not after its expiry; it obeys nobody who has only the broker's password.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from celery import current_app
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.messaging import Producer

from fleet.joining import server_key
from fleet.models import Host
from telemetry.message.envelope import seal_order
from telemetry.message.wire import host_queue

logger = logging.getLogger(__name__)
_PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2}
_TRIES = 2  # of many at once: a pooled connection may be to a broker that has started again since


class ForHost(NamedTuple):
    """What goes to one host."""

    host: Host
    body: bytes
    expires: datetime


def send(task: str, host: Host, body: bytes, expires: datetime) -> bool:
    """Send `body` to the agent's task; False where the broker is not reached, and the caller may send it again later.

    Each call seals anew: the same order sent twice has two nonces, and what it asks for must bear being asked for twice.
    """
    return send_each(task, [ForHost(host, body, expires)])


def send_each(task: str, orders: Sequence[ForHost]) -> bool:
    """Send each order as `send` does, on one connection and, where the broker can, in one step. False: perhaps not all went."""
    for _ in range(_TRIES):
        try:
            with current_app.producer_pool.acquire(block=True) as producer, producer.batch():
                for order in orders:
                    _publish(task, order, producer)
        except BatchPublishError:
            continue
        except OperationalError:
            break
        return True
    more = f" and {len(orders) - 1} more" if len(orders) > 1 else ""
    logger.warning("broker not reached: %s for %s%s was not sent", task, orders[0].host.name, more)
    return False


def _publish(task: str, order: ForHost, producer: Producer) -> None:
    expires_ms = int(order.expires.timestamp() * 1000)
    payload = seal_order(server_key.private(), task, order.host.name, order.body, expires_ms)
    current_app.send_task(
        task,
        [payload],
        producer=producer,
        queue=host_queue(order.host.name),
        # The broker may drop it then. No `expires`: by that the agent's worker would drop an order that its clock, being
        # ahead, calls expired, and nobody would hear of it; the order desk tells.
        expiration=max(0.0, (order.expires - datetime.now(UTC)).total_seconds()),
        argsrepr="",
        retry_policy=_PUBLISH_RETRIES,
    )
