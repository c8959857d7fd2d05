"""Reading the fields of foreign messages: each of the expected type and size, or MessageInvalid with the field's name.

Called by the wires of telemetry and training and by the envelope. No Django.
"""

import re
from typing import Any

import msgpack

MAX_KEYS = 1024
_MAX_LENGTH = 100_000  # of one list or map; the longest are the rows of what is absent
_MAX_PARTS = 250_000  # lists and maps in all: an empty one is one byte there and a hundred here
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LARGEST = 2**62
_MAX_SHOWN = 100  # characters: what is refused goes into the log, and anybody may send it


class MessageInvalid(ValueError):
    """A message does not fit the wire format; the text says which field."""


class _Parts:
    """Counts a message's lists and maps as they are read, and ends the reading where they are too many."""

    def __init__(self, limit: int) -> None:
        self._left = self._limit = limit

    def take_map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._take()
        return dict(pairs)

    def take_list(self, values: list[Any]) -> list[Any]:
        self._take()
        return values

    def _take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise MessageInvalid(f"message: expected at most {self._limit} lists and maps")


def read_message(
    payload: object, limit: int, *, max_parts: int = _MAX_PARTS, max_length: int = _MAX_LENGTH
) -> dict[str, Any]:
    """Return the message's map. Raises MessageInvalid where the bytes are too many or are no map.

    `max_parts` bounds its lists and maps, itself included, `max_length` each of them: what a few bytes may allocate.
    """
    parts = _Parts(max_parts)
    if not isinstance(payload, bytes) or len(payload) > limit:
        raise MessageInvalid(f"message: expected at most {limit} bytes")
    try:
        message = msgpack.unpackb(
            payload, strict_map_key=False, object_pairs_hook=parts.take_map, list_hook=parts.take_list,
            max_map_len=max_length, max_array_len=max_length, max_ext_len=0,
        )  # fmt: skip
    except MessageInvalid:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # TypeError: a list stands as a map's key
        raise MessageInvalid(f"message: not msgpack ({error})") from error
    if not isinstance(message, dict):
        raise MessageInvalid("message: expected a map")
    return message


def text(value: object, name: str, limit: int = 500) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise MessageInvalid(f"{name}: expected text of at most {limit} characters")
    return value.replace("\x00", "")  # PostgreSQL's text cannot hold it


def matching(message: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MessageInvalid(f"{name}: {shown(value)} does not match {pattern.pattern}")
    return value


def shown(value: object) -> str:
    """Return what a refusal says of a foreign value."""
    return repr(value)[:_MAX_SHOWN]


def integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise MessageInvalid(f"{name}: expected a non-negative integer")
    return value


def number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):  # noqa: PLR0124 — NaN
        raise MessageInvalid(f"{name}: expected a finite number")
    return float(value)


def mapping(message: dict[str, Any], name: str) -> dict[Any, Any]:
    value = message.get(name, {})
    if not isinstance(value, dict) or len(value) > MAX_KEYS:
        raise MessageInvalid(f"{name}: expected a map")
    return value


def rows(message: dict[str, Any], name: str, limit: int) -> list[Any]:
    """Return a list, empty where the message has none."""
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise MessageInvalid(f"{name}: expected a list of at most {limit}")
    return value


def raw(value: object, name: str, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise MessageInvalid(f"{name}: expected {size} bytes")
    return value
