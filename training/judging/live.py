"""What jobs do right now, for many of them at once: pace, power, temperature, and the pace that was to be expected.

Called by the page of a launch. A handful of queries, however many jobs; the job's own page knows more of one (views/measured.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from django.db.models import Sum

from telemetry.nvidia import clock_events
from telemetry.store import latest
from training.judging import acceptance, metrics
from training.models import ReferenceJob, RunRank, Verdict
from training.verdicts.screening import FEWEST

_NOT_THROTTLED = 0x1 | 0x2  # idle, and clocks that somebody has set: no device is slow because of these
_MOST_ROWS = 20_000
_OWN_RUNS = 50


@dataclass(frozen=True, slots=True)
class Pace:
    """Over the measured steps that have arrived: `seconds` a step, mean; rates None where the steps do not tell of them."""

    n_steps: int
    seconds: float
    samples_per_second: float | None
    samples: float | None


@dataclass(frozen=True, slots=True)
class Now:
    """A device's newest readings, None where it gives none; `throttled` names why its clock is held down, "" where it is not."""

    watts: float | None = None
    celsius: float | None = None
    throttled: str | None = None


def paces(jobs: Sequence[ReferenceJob]) -> dict[int, Pace]:
    """Return the pace by job id, of those whose first measured step has arrived."""
    runs = {job.run_id: job.pk for job in jobs if job.run_id is not None}
    rows = RunRank.objects.filter(run__in=runs, rank=0, n_steps__gt=0).order_by().values("run")
    found = {}
    for row in rows.annotate(n=Sum("n_steps"), took=Sum("seconds"), samples_of_all=Sum("samples")):
        samples, took = row["samples_of_all"], row["took"]
        rate = None if samples is None else samples / took
        found[runs[row["run"]]] = Pace(row["n"], took / row["n"], rate, samples)
    return found


def now_on(jobs: Sequence[ReferenceJob]) -> dict[int, Now]:
    """Return by job id what its device reads."""
    known = latest.of_hosts([job.host for job in jobs])
    found = {}
    for job in jobs:
        newest = known.get(job.host_id)
        device = newest.devices.get(job.device.uuid) if newest is not None and job.device is not None else None
        values = {} if device is None else device.values
        found[job.pk] = Now(
            values.get("power_draw_watts"),
            values.get("temperature_celsius"),
            throttled(values.get("clock_event_reasons")),
        )
    return found


def throttled(mask: float | None) -> str | None:
    return None if mask is None else ", ".join(clock_events.names(int(mask) & ~_NOT_THROTTLED))


def expected_steps(jobs: Sequence[ReferenceJob]) -> dict[int, float]:
    """Return by device id the median step of its earlier clean runs of the kind, seconds; all jobs are of one launch.

    As training.judging.baseline.expected does for one job; a device with too few such runs is left out.
    """
    first = jobs[0]
    alike = Verdict.objects.filter(
        device_key__in={job.device_id for job in jobs}, job__workload=first.workload, job__params=first.params,
        job__team=None, is_clean=True, job__created_at__lt=first.created_at,
    )  # fmt: skip
    rows = acceptance.usable(alike).exclude(key="").order_by("-ended_at")
    keys: dict[int, str] = {}
    values: dict[int, list[float]] = {}
    for device, key, told in rows.values_list("device_key", "key", "values")[:_MOST_ROWS]:
        if device is None or keys.setdefault(device, key) != key or metrics.STEP.name not in told:
            continue
        values.setdefault(device, []).append(float(told[metrics.STEP.name]))
    return {device: median(each[:_OWN_RUNS]) for device, each in values.items() if len(each) >= FEWEST}
