"""Reading blocks of steps (block.py) to columns, every field checked and every size bounded. Server side, no Django.

What a loop says of itself is foreign: the header is its own JSON, only `from` is the agent's word.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.decoding import matrix
from telemetry.message.codec import WIDTHS, BlockInvalid
from telemetry.message.wire import LATEST_MS, MessageInvalid, integer, matching, read_message, text
from training.message.wire import INT_32, LAUNCH, MAX_STEP_SECONDS, MOST_RANKS, NAME, below, fields_of
from training.steps import block, columns, datagram
from training.steps.block import COLUMNS, NUMBERS, TICK_NS
from training.steps.columns import INFINITE, Floats, StepColumns, StepKind
from training.steps.datagram import MAX_PHASES
from training.steps.teller import Teller

_MAX_BYTES = 2_000_000
_MAX_STEPS = 200_000
_MAX_DEVICES = 64
_MAX_PARTS = 200
_TICKS_PER_SECOND = 1_000_000_000 // TICK_NS
_LARGEST = 2**62
_PROCESS = re.compile(r"[0-9a-f]{32}")
_DEVICE = re.compile(r"[A-Za-z0-9/_.:-]{1,96}")
_PHASE = re.compile(r"[A-Za-z0-9_. /-]{1,40}")

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Steps of one process, sorted; the number of its newest frame, and how many it had dropped by then."""

    teller: Teller
    steps: StepColumns
    newest_sequence: int
    n_dropped: int


def read(piece: bytes) -> Block:
    """Return what a block tells. Raises MessageInvalid."""
    message = read_message(piece, _MAX_BYTES, max_parts=_MAX_PARTS)
    if message.get("v") != block.VERSION:
        raise MessageInvalid(f"v: expected {block.VERSION} of a block of steps")
    head = _head(message.get("head"))
    n_steps = integer(message.get("n"), "n")
    if not 1 <= n_steps <= _MAX_STEPS:
        raise MessageInvalid(f"n: expected 1 to {_MAX_STEPS} steps")
    told = dict(zip(COLUMNS, _columns(message, "columns", len(COLUMNS), n_steps), strict=True))
    phases = _columns(message, "phases", len(head["phases"]), n_steps)
    parts = _parts(message, "numbers", len(NUMBERS))
    numbers = {name: _floats(raw, n_steps) for name, raw in zip(NUMBERS, parts, strict=True)}
    return Block(
        teller=_teller(head, message.get("from")),
        steps=_steps(told, numbers, dict(zip(head["phases"], phases, strict=True))),
        newest_sequence=int(told["sequence"].max()),
        n_dropped=int(told["dropped"].max()),
    )


def _head(raw: object) -> dict[str, Any]:
    if not isinstance(raw, bytes) or len(raw) > datagram.MAX_BYTES:
        raise MessageInvalid(f"head: expected at most {datagram.MAX_BYTES} bytes")
    try:
        head = json.loads(raw)
        json.dumps(head, ensure_ascii=False).encode()  # no half of a surrogate pair, which no database takes
    except (ValueError, RecursionError) as error:
        raise MessageInvalid(f"head: no JSON ({type(error).__name__})") from error
    if not isinstance(head, dict) or head.get("v") != datagram.VERSION:
        raise MessageInvalid(f"head: expected a header of version {datagram.VERSION}")
    phases = head.setdefault("phases", [])
    if not isinstance(phases, list) or len(phases) > MAX_PHASES or not all(_is_text(name, _PHASE) for name in phases):
        raise MessageInvalid(f"phases: expected at most {MAX_PHASES} names")
    return head


def _teller(head: dict[str, Any], sender: object) -> Teller:
    if not isinstance(sender, list) or len(sender) != 3:
        raise MessageInvalid("from: expected [pid, user, group]")
    devices = head.get("devices", [])
    if (
        not isinstance(devices, list)
        or len(devices) > _MAX_DEVICES
        or not all(_is_text(each, _DEVICE) for each in devices)
    ):
        raise MessageInvalid(f"devices: expected at most {_MAX_DEVICES} names")
    user, group = text(sender[1], "from", 100), text(sender[2], "from", 100)
    return Teller(
        run=matching(head, "run", NAME),
        launch=matching(head, "launch", LAUNCH),
        rank=below(MOST_RANKS, head.get("rank", 0), "rank"),
        user=user,
        process=matching(head, "process", _PROCESS),
        owner=text(head.get("owner", ""), "owner", 100),
        group=text(head.get("group", ""), "group", 100) or group,
        pid=below(INT_32, sender[0], "from") or None,
        world_size=below(INT_32, head["world_size"], "world_size") if head.get("world_size") else None,
        restart=below(INT_32, head.get("restart", 0), "restart"),
        devices=tuple(devices),
        description=fields_of(head.get("about", {}), "about", depth=2),
    )


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _parts(message: dict[str, Any], name: str, n: int) -> list[Any]:
    found = message.get(name)
    if not isinstance(found, list) or len(found) != n:
        raise MessageInvalid(f"{name}: expected {n} columns")
    return found


def _columns(message: dict[str, Any], name: str, n: int, n_steps: int) -> list[Integers]:
    return [_integers(part, name, n_steps) for part in _parts(message, name, n)]


def _integers(part: object, name: str, n_steps: int) -> Integers:
    width, raw = part if isinstance(part, list) and len(part) == 2 else (None, None)
    if width not in {0, *WIDTHS} or not isinstance(raw, bytes) or len(raw) != width * n_steps:
        raise MessageInvalid(f"{name}: expected [width, planes] of {n_steps} integers")
    try:
        differences = matrix.Reader(raw).integers(width, n_steps)
    except BlockInvalid as error:
        raise MessageInvalid(f"{name}: {error}") from error
    found: Integers = differences.cumsum()
    if found.max() >= _LARGEST or found.min() <= -_LARGEST:
        raise MessageInvalid(f"{name}: an integer of 2**62 or more")
    return found


def _floats(raw: object, n_steps: int) -> Floats:
    """Return the numbers; what is not finite is not told."""
    if not isinstance(raw, bytes) or len(raw) not in {8, 8 * n_steps}:
        raise MessageInvalid(f"numbers: expected 8 bytes, or those of {n_steps} numbers")
    planes = np.frombuffer(raw, np.uint8).reshape(8, -1)
    values = np.ascontiguousarray(planes.T).view("<f8").reshape(-1).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return np.broadcast_to(values, n_steps) if values.size != n_steps else values


def _steps(told: dict[str, Integers], numbers: dict[str, Floats], phases: dict[str, Integers]) -> StepColumns:
    if told["sequence"].min() < 0 or told["number"].min() < 0 or told["dropped"].min() < 0:
        raise MessageInvalid("columns: expected numbers from 0 on")
    if told["ended_us"].min() < 0 or told["ended_us"].max() >= LATEST_MS * 1000:
        raise MessageInvalid("ended_us: expected a time before the year 10000")
    if told["ticks"].min() <= 0 or told["ticks"].max() > MAX_STEP_SECONDS * _TICKS_PER_SECOND:
        raise MessageInvalid(f"ticks: expected more than 0 and at most {MAX_STEP_SECONDS:.0f} s")
    for name in ("samples", "tokens"):
        can_be = (numbers[name] >= 0) & (numbers[name] < _LARGEST)
        numbers[name] = np.where(can_be, numbers[name], np.nan)
    numbers["loss"] = np.where(np.abs(numbers["loss"]) < INFINITE, numbers["loss"], np.nan)
    kinds = told["kind"]
    return columns.of_arrays(
        {
            "number": told["number"],
            "ended_ms": told["ended_us"] / 1000,
            "seconds": told["ticks"] / _TICKS_PER_SECOND,
            "compute_seconds": _durations(told["compute_ticks"]),
            "is_warmup": (told["flags"] & datagram.WARM_UP).astype(np.bool_),
            "kind": np.where((kinds >= 0) & (kinds <= StepKind.OTHER), kinds, StepKind.OTHER),
            **numbers,
        },
        {name: _durations(ticks) for name, ticks in phases.items()},
    )


def _durations(ticks: Integers) -> Floats:
    return np.where(ticks >= 0, ticks / _TICKS_PER_SECOND, np.nan)
