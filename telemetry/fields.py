"""Reading the fields of foreign messages: each of the expected type and size, or MessageInvalid with the field's name.

Called by the wires of telemetry and training and by the envelope. No Django.
"""

import re
from typing import Any

import msgpack

MAX_KEYS = 1024
_LARGEST = 2**62


class MessageInvalid(ValueError):
    """A message does not fit the wire format; the text says which field."""


def read_message(payload: object, limit: int) -> dict[str, Any]:
    """Return the message's map. Raises MessageInvalid where the bytes are too many or are no map."""
    if not isinstance(payload, bytes) or len(payload) > limit:
        raise MessageInvalid(f"message: expected at most {limit} bytes")
    try:
        message = msgpack.unpackb(payload, strict_map_key=False)
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
        raise MessageInvalid(f"{name}: {value!r} does not match {pattern.pattern}")
    return value


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
