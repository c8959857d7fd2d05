"""The address of a stack's arrays: what the page drew, written into it and read back. Called by the run's views."""

from math import isfinite, nan
from urllib.parse import urlencode

from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.urls import reverse

from training.models import Run
from training.runs import device_readings
from training.runs.stack import ROWS, Stack

_MOST_PHASES = 40
_MOST_DIGITS = 10
_MFU = "mfu_per_"  # with samples or tokens: MFU at one of these a second


def address(stack: Stack, run: Run, range_key: str) -> str:
    wanted = {
        "range": range_key, "row": stack.rows, "phase": stack.phases, "metric": stack.metrics,
        **({"device": stack.device} if stack.device else {}),
        **({_MFU + stack.mfu_of: repr(stack.mfu_per_rate)} if "mfu" in stack.rows else {}),
        **({"onset": round(stack.onset_ms), "rank": stack.slow_rank} if isfinite(stack.onset_ms) else {}),
    }  # fmt: skip
    return f"{reverse('training:run-arrays', args=[run.pk])}?{urlencode(wanted, doseq=True)}"


def of_query(query: QueryDict) -> Stack:
    """Return the stack that an address names. Raises BadRequest where it names what there is not."""
    rows, metrics = (list(dict.fromkeys(query.getlist(name))) for name in ("row", "metric"))
    phases = query.getlist("phase")
    if unknown := [row for row in rows if row not in ROWS]:
        raise BadRequest(f"row: {unknown[0]} is not one of {', '.join(ROWS)}")
    if unknown := [name for name in metrics if name not in device_readings.NAMES]:
        raise BadRequest(f"metric: {unknown[0]} is not one of {', '.join(device_readings.NAMES)}")
    if len(phases) > _MOST_PHASES:
        raise BadRequest(f"phase: at most {_MOST_PHASES}")
    mfu_of = "tokens" if f"{_MFU}tokens" in query else "samples"
    rank = query.get("rank", "0")
    if not rank.isdecimal() or len(rank) > _MOST_DIGITS:
        raise BadRequest("rank: expected a whole number")
    return Stack(
        rows=rows,
        phases=phases,
        metrics=metrics,
        device=query.get("device", ""),
        mfu_of=mfu_of,
        mfu_per_rate=_number(query, _MFU + mfu_of),
        onset_ms=_number(query, "onset"),
        slow_rank=int(rank),
    )


def _number(query: QueryDict, name: str) -> float:
    try:
        value = float(query.get(name, "nan"))
    except ValueError:
        raise BadRequest(f"{name}: expected a number") from None
    return value if isfinite(value) else nan
