"""The form of what goes to the agent: a header, the same bytes each time, a line feed, and a record. Called by the run.

The server's training/steps/datagram.py has the same form; a test compares the two.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

VERSION = 2
MAX_BYTES = 8_192  # the agent refuses longer ones
MAX_PHASES = 32
WARM_UP = 1
TRAIN, VALIDATION, CHECKPOINT, OTHER = range(4)
UNTOLD_NS = -1
# sequence, dropped, number, ended_ns, nanoseconds, compute_ns, samples, tokens, loss, kind, flags
FORM = "<QQQqqqdddBB"
_KINDS = {
    "validation": VALIDATION, "evaluation": VALIDATION, "val": VALIDATION, "eval": VALIDATION, "test": VALIDATION,
    "checkpoint": CHECKPOINT, "save": CHECKPOINT,
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f]")
_NO_NAME = re.compile(r"[^A-Za-z0-9_. /-]")
_MAX_ABOUT_BYTES = 4_000


def record(n_phases: int) -> struct.Struct:
    """Return the form of a record with so many phases."""
    return struct.Struct(FORM + f"{n_phases}q")


def header(told: dict[str, Any]) -> bytes:
    """Return the header; what the run says of itself is left out where it is too long, or nothing that JSON can hold."""
    told = {"v": VERSION, **told, "about": told["about"] if _is_tellable(told["about"]) else {}}
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _is_tellable(about: dict[str, Any]) -> bool:
    try:
        return len(json.dumps(about, allow_nan=False)) <= _MAX_ABOUT_BYTES
    except (TypeError, ValueError):
        return False


def kind(name: str) -> int:
    """Return which kind of time a phase outside of steps is."""
    return _KINDS.get(name.lower(), OTHER)


def phase_name(name: object) -> str:
    return _NO_NAME.sub("_", str(name))[:40] or "unnamed"


def text(value: object, limit: int) -> str:
    return _CONTROL.sub(" ", str(value))[:limit]


def number(value: object, default: float | None = None) -> float | None:
    """Return a plain finite number; `default` for anything else: to read a tensor would wait for its device."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value) if math.isfinite(value) else default
        except OverflowError:  # an int beyond what a float holds
            return default
    return default


def count(value: object, default: int) -> int:
    """Return a whole number that a rank, a size or a step's number can be; `default` for anything else."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return int(value) if is_count else default  # type: ignore[call-overload]  # it is an int
