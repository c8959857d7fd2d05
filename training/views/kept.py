"""Answers about runs that are over, kept: what they were made of does not change any more. Called by the run's views."""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TypeVar

from django.core.cache import cache

from telemetry.prices.energy_rates import Rates
from training.models import Run

_SETTLED = timedelta(minutes=15)  # after the last step: by then its telemetry has come, too
_KEPT_SECONDS = 3600

Answer = TypeVar("Answer", str, bytes)


def kept(run: Run, now: datetime, address: str, make: Callable[[], Answer]) -> Answer:
    """Return what `make` makes for the address, or made before where the run was over by then."""
    last = run.last_step_at
    if last is None or run.is_running(now) or now - last < _SETTLED:
        return make()
    asked = repr((address, Rates.in_force())).encode()  # an answer holds what the run cost
    key = f"run-answer:{run.pk}:{last.timestamp()}:{blake2b(asked, digest_size=12).hexdigest()}"
    found: Answer | None = cache.get(key)
    if found is None:
        found = make()
        cache.set(key, found, _KEPT_SECONDS)
    return found
