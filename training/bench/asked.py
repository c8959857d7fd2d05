"""What the bench asks of the steps' store, in a process on its environment's data directory: `python -m training.bench.asked`.

One line of JSON in, [function, argument, …]; one out, {"answer"} or {"error"}. It makes up runs: never where somebody's data is.
"""

import json
import os
import sys
import time
from typing import Any

import django


def n_steps() -> dict[str, int]:
    """Return how many steps are stored, how many frames are counted, and how many of these never came."""
    from django.db.models import Sum

    from training.models import RunRank, StepChunk

    ranks = list(RunRank.objects.all())
    stored = StepChunk.objects.aggregate(n=Sum("n_steps"))["n"] or 0
    return {
        "stored": stored,
        "frames": sum(rank.n_frames for rank in ranks),
        "lost": sum(rank.n_lost for rank in ranks),
    }


def make_run(n_total: int, n_ranks: int) -> int:
    """Make a run of so many steps on a host of its own, as compaction leaves it; returns its id."""
    from datetime import UTC, datetime, timedelta

    import numpy as np

    from fleet.models import Host, Origin
    from training.models import Run, RunRank
    from training.steps import columns as step_columns
    from training.steps.store import write

    random, seconds = np.random.default_rng(1), 0.02
    number = np.arange(n_total) // n_ranks
    end = datetime.now(UTC)
    first_ms = (end - timedelta(seconds=seconds * n_total / n_ranks)).timestamp() * 1000
    told = {
        "rank": np.arange(n_total) % n_ranks,
        "number": number,
        "ended_ms": np.rint((first_ms + number * seconds * 1000 + random.uniform(0, 1, n_total)) * 1000) / 1000,
        "seconds": np.round(random.normal(seconds, seconds * 0.004, n_total), 7),
        "compute_seconds": np.round(random.normal(0.8 * seconds, seconds * 0.004, n_total), 7),
        "samples": np.full(n_total, 8.0),
        "tokens": np.full(n_total, 8 * 4096.0),
        "loss": random.normal(2.5, 0.05, n_total).astype(np.float32),
    }
    phases = {
        name: np.round(random.normal(seconds / 4, seconds * 0.002, n_total), 7)
        for name in ("data", "forward", "backward")
    }
    host, _ = Host.objects.get_or_create(name="bench", defaults={"origin": Origin.SIMULATED, "heard_at": end})
    run = Run.objects.create(
        name="million", launch=f"bench-{n_total}", host=host, world_size=n_ranks, last_step_at=end, ends_at=end,
        started_at=datetime.fromtimestamp(first_ms / 1000, UTC),
    )  # fmt: skip
    write.add(run, step_columns.of_arrays(told, phases))
    RunRank.objects.bulk_create(
        RunRank(run=run, rank=rank, host=host, first_ms=round(first_ms), last_ms=round(end.timestamp() * 1000),
                n_steps=n_total // n_ranks, n_frames=n_total // n_ranks, newest_sequence=n_total // n_ranks - 1)
        for rank in range(n_ranks)
    )  # fmt: skip
    return run.pk


def read_seconds(run_id: int, columns: list[str] | None) -> list[float]:
    """Return how long it takes to read the run's steps, five times over."""
    from training.steps.store import read

    taken = []
    for _ in range(5):
        began = time.perf_counter()
        read.steps(run_id, columns=columns)
        taken.append(time.perf_counter() - began)
    return taken


def body_bytes(run_id: int) -> int:
    from django.db.models import Sum
    from django.db.models.functions import Length

    from training.models import StepChunk

    return int(StepChunk.objects.filter(run=run_id).aggregate(n=Sum(Length("body")))["n"])


def public_key() -> str:
    """Return the key by which hosts know the server's orders, in hex."""
    from fleet.joining import server_key

    return server_key.public_bytes().hex()


def let_run(names: list[str]) -> None:
    """Have made-up hosts be taken for real ones, which may run jobs."""
    from fleet.models import Host, Origin

    Host.objects.filter(name__in=names).update(origin=Origin.REAL)


def n_launchable(names: list[str]) -> int:
    """Return how many of these hosts have told of their devices."""
    from fleet.models import Host

    return Host.objects.filter(name__in=names, devices__isnull=False).distinct().count()


def session(role: str = "") -> str:
    """Make a user who has signed in, of that role; returns the session's key."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.auth.models import Group
    from django.contrib.sessions.backends.db import SessionStore

    user = get_user_model().objects.create_user(role or "reader")
    if role:
        user.groups.add(Group.objects.get(name=role))
    store = SessionStore()
    store[SESSION_KEY], store[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store.create()
    return str(store.session_key)


def compact_seconds() -> float:
    """Return how long it takes to join all small chunks."""
    from datetime import UTC, datetime, timedelta

    from training.steps.store import compact

    began = time.perf_counter()
    compact.compact(datetime.now(UTC) + timedelta(days=1), budget_seconds=600)
    return time.perf_counter() - began


_CALLS = {
    call.__name__: call
    for call in (
        n_steps, make_run, read_seconds, body_bytes, compact_seconds, session, public_key, let_run, n_launchable,
    )
}  # fmt: skip


def run() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    django.setup()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints must not spoil the answers
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"answer": _CALLS[name](*arguments)}
        except Exception as error:  # noqa: BLE001 — the outermost loop: the caller is told, and may ask something else
            answer = {"error": f"{name}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    run()
