"""kombu's Redis transport for the server, which takes and acknowledges many messages in one step each.

kombu asks Redis five times for every message, each time with a client made for it: at telemetry's rate that costs more than
all else. What stands in Redis meanwhile is what kombu writes there: both sides, and a worker with kombu's own transport, may
be mixed. Named as a string by the server's Celery app. No Django.
"""

import json
import logging
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import orjson
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from telemetry.broker.full_broker import refusals_as_lost

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 200

# Moves messages from a queue to those that are not acknowledged, whole or not at all: kombu's BRPOP loses the message that it
# took if the worker dies before it is noted. What is no message of kombu's is handed over as it is, and noted nowhere.
_TAKE = """
local taken = {}
for i = 1, tonumber(ARGV[1]) do
    local raw = redis.call('RPOP', KEYS[1])
    if not raw then break end
    local is_read, found = pcall(function()
        local properties = cjson.decode(raw).properties
        local info = properties.delivery_info
        local way = cjson.encode(info.exchange) .. ',' .. cjson.encode(info.routing_key)
        return {properties.delivery_tag, '[' .. raw .. ',' .. way .. ']'}
    end)
    if is_read and found[1] then
        redis.call('ZADD', KEYS[2], ARGV[2], found[1])
        redis.call('HSET', KEYS[3], found[1], found[2])
    end
    taken[i] = raw
end
return taken
"""


class Unreadable(ValueError):
    """What stands in a queue is no message of kombu's."""


class Message(virtual.Message):
    """Raises Unreadable where a part is missing or of another kind."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            self.delivery_info["exchange"], self.delivery_info["routing_key"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unreadable(f"no message ({error!r})") from error


class QoS(redis.QoS):
    """Knows which messages are not acknowledged; those that were taken together are noted in Redis already."""

    is_noted = False
    rests_until = 0.0

    def append(self, message: Message, delivery_tag: str) -> None:
        if self.is_noted:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack_all(self, delivery_tags: Sequence[str]) -> None:
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *delivery_tags).hdel(self.unacked_key, *delivery_tags).execute()
        finally:
            # Also where Redis did not hear of it: nobody acknowledges them again, and they would count as prefetched for ever.
            for tag in delivery_tags:
                virtual.QoS.ack(self, tag)

    def can_consume(self) -> bool:
        return super().can_consume() and time.monotonic() >= self.rests_until


class Channel(redis.Channel):
    """Takes all that waits in its queues, as far as the prefetch count lets it, whenever a message has come."""

    QoS = QoS
    Message = Message
    # kombu leaves it out where a command may be repeated; here a message that comes twice does no harm.
    supports_batch_publish = True

    def ack_all(self, messages: Sequence[virtual.Message]) -> None:
        """Acknowledge these in one step. Raises one of `connection_errors`; then they come again, when their time is over."""
        self.qos.ack_all([message.delivery_tag for message in messages])
        for message in messages:
            message._state = "ACK"  # noqa: SLF001 — as its own `ack` does

    def rest(self, seconds: float) -> None:
        """Ask the server for nothing meanwhile: what comes gathers there, and is taken in one step by `take_waiting`."""
        self.qos.rests_until = time.monotonic() + seconds

    def take_waiting(self) -> None:
        """Deliver what waits; a rest ends where there may be more. Raises one of `connection_errors`."""
        for queue in self.active_queues:
            room = self.qos.can_consume_max_estimate()
            room = _MOST_AT_ONCE if room is None else min(room, _MOST_AT_ONCE)
            if room and self._take(queue, room) == room:
                self.qos.rests_until = 0.0

    def _brpop_read(self, **options: Any) -> bool:
        with refusals_as_lost():
            try:
                super()._brpop_read(**options)
            except (json.JSONDecodeError, Unreadable) as error:
                logger.warning("what stood in a queue was dropped: %s", error)
            self.take_waiting()
        return True

    def _take(self, queue: str, n: int) -> int:
        """Deliver up to `n` messages; returns how many there were."""
        found = self._taking(keys=[queue, self.unacked_index_key, self.unacked_key], args=[n, time.time()])
        self.qos.is_noted = True
        try:
            for raw in found:
                try:
                    self.connection._deliver(_read(raw), queue)  # noqa: SLF001 — as kombu's own reading does
                except Unreadable as error:  # the others are taken already, and are handed out again much later only
                    logger.warning("what stood in the queue %s was dropped: %s: %r", queue, error, raw[:100])
        finally:
            self.qos.is_noted = False
        return len(found)

    @cached_property
    def _taking(self) -> Any:
        return self._create_client().register_script(_TAKE)


def _read(raw: bytes) -> Any:
    """Raises Unreadable."""
    try:
        return loads(bytes_to_str(raw)) if b"__type__" in raw else orjson.loads(raw)
    except ValueError as error:
        raise Unreadable(f"no JSON ({error})") from error


class Transport(redis.Transport):
    """Redis, in fewer steps."""

    Channel = Channel
