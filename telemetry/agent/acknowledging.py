"""Takes the server's acknowledgements: the spool lets go of what is stored, and the clocks are compared.

Called by the host's Celery task, and for the simulated hosts by their own reader.
"""

import time
from collections.abc import Callable

from telemetry.agent.clock_offset import ClockOffset
from telemetry.agent.orders import OrderDesk
from telemetry.agent.spool_file import Ranges
from telemetry.message import acknowledgement
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK, Acknowledgement


class Acknowledging:
    """`let_go(epoch, ranges)` is the sender's."""

    def __init__(self, orders: OrderDesk, let_go: Callable[[str, Ranges], None], offset: ClockOffset) -> None:
        self._orders, self._let_go, self._offset = orders, let_go, offset

    def take_order(self, payload: object) -> None:
        """Raises MessageInvalid, and then nothing was done."""
        arrived_ms = int(time.time() * 1000)
        told = read(self._orders, payload, arrived_ms)
        self._let_go(told.epoch, told.ranges)
        self._offset.note(told, arrived_ms)


def read(orders: OrderDesk, payload: object, now_ms: int) -> Acknowledgement:
    """Return what the server said. Raises MessageInvalid.

    Neither nonce nor expiry is asked for. Said again or late it is as true as before: what was stored is stored, and a
    clock sample that was under way for long is passed over. And it must reach a host whose clock is wrong.
    """
    return acknowledgement.unpack(orders.open_repeatable(ACKNOWLEDGE_TASK, payload, now_ms))
