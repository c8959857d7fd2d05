"""The page of a launch: all its jobs, live, with what they do together. One view gives the page and its refresh."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role
from fleet.web.csv_answer import csv_answer
from training.jobs import launch, queries
from training.judging import live
from training.judging.live import Now, Pace
from training.models import JobState, ReferenceJob
from training.views.measured import sample_unit, why_no_energy
from training.views.progress import MARKS, headline, mark, percent

_EXPECTED_KEPT_SECONDS = 600  # what was measured before the launch does not change with it
_NO_STEP = "no measured step yet"
_CSV = (
    "job", "host", "state", "progress_percent", "seconds_left", "step_seconds", "deviation_ratio", "samples_per_second", "watts",
    "samples_per_joule", "celsius", "throttled", "device", "device_model",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One job. What is None is not known (yet); `deviation` is speed over what was expected of the device, − 1."""

    job: ReferenceJob
    mark: str
    headline: str
    percent: int | None
    seconds_left: float | None
    seconds: float | None
    deviation: float | None
    samples_per_second: float | None
    watts: float | None
    celsius: float | None
    throttled: str | None
    samples_per_joule: float | None
    why_no_energy: str


@dataclass(frozen=True, slots=True)
class Together:
    """What the jobs of a launch do as one. Sums are over the jobs that tell, `n_…` how many these are."""

    n_jobs: int
    n_ended: int
    percent: int
    seconds_left: float | None
    seconds: float | None
    deviation: float | None
    samples_per_second: float | None
    n_paced: int
    watts: float | None
    n_powered: int
    per_joule: float | None
    n_both: int
    hottest: Row | None
    n_throttled: int | None
    n_told: int


def launched(request: HttpRequest) -> HttpResponseBase:
    """Show the jobs of the launch that the query string names; a distributed job has a page of all its ranks. Raises Http404."""
    jobs = list(queries.jobs().filter(launch=request.GET.get("launch", "")).order_by("host__name", "pk"))
    if not jobs:
        raise Http404("There is no such launch.")
    if jobs[0].team_id is not None:
        return redirect("training:job", jobs[0].pk)
    rows = _rows(jobs)
    if request.GET.get("format") == "csv":
        return csv_answer("launch", _CSV, map(_csv_row, rows))
    context = {
        "rows": rows,
        "together": _together(rows),
        "first": jobs[0],
        "counts": [
            (MARKS[state], state.label, n) for state in JobState if (n := sum(job.state == state for job in jobs))
        ],
        "is_over": all(job.is_final and not (job.state == JobState.DONE and not job.energy) for job in jobs),
        "samples_rate": f"{sample_unit(jobs[0])}/s",
        "per_joule": f"{sample_unit(jobs[0])}/J",
        "may_cancel": has_role(request, Role.OPERATOR),
        "no_step": _NO_STEP,
        "path": request.get_full_path(),
        "view": "launched",
    }
    if request.htmx:  # type: ignore[attr-defined]  # set by django-htmx's middleware
        return render(request, "training/_launched.html", context)
    return render(request, "training/launched.html", context | {"running_count": queries.jobs(active=True).count()})


def _csv_row(row: Row) -> tuple[object, ...]:
    job = row.job
    device = (job.device.title, job.device.model) if job.device else ("", "")
    return (
        job.pk, job.host.name, job.state, row.percent, row.seconds_left, row.seconds, row.deviation, row.samples_per_second,
        row.watts, row.samples_per_joule, row.celsius, row.throttled, *device,
    )  # fmt: skip


@require_POST
@require_role(Role.OPERATOR)
def cancel(request: HttpRequest, launch_id: str) -> HttpResponseBase:
    """End all jobs of a launch; those that have ended stay as they are."""
    launch.cancel_all(launch_id, actor=actor_of(request), now=timezone.now())
    return redirect(f"{reverse('training:reference')}?view=launched&launch={launch_id}")


def _rows(jobs: Sequence[ReferenceJob]) -> list[Row]:
    running = [job for job in jobs if not job.is_final]
    paces, now = live.paces(running), live.now_on(running) if running else {}
    expected = cache.get_or_set(
        f"launch-expected:{jobs[0].launch}", lambda: live.expected_steps(jobs), _EXPECTED_KEPT_SECONDS
    )
    return [_row(job, paces.get(job.pk), now.get(job.pk, Now()), (expected or {}).get(job.device_id)) for job in jobs]


def _row(job: ReferenceJob, pace: Pace | None, now: Now, expected: float | None) -> Row:
    """Of a job that is done its result, of one that runs what it does now: its device's readings are not yet its energy."""
    is_running = job.state == JobState.RUNNING
    seconds = job.result.get("step_seconds_median") if job.state == JobState.DONE else pace.seconds if pace else None
    left = pace.seconds * max(0, job.total_steps - job.step) if pace and is_running else None
    rate = (
        job.result.get("samples_per_second")
        if job.state == JobState.DONE
        else pace.samples_per_second
        if pace
        else None
    )
    return Row(
        job=job,
        mark=mark(job),
        headline=headline(job),
        percent=100 if job.state == JobState.DONE else percent(job.step, job.total_steps),
        seconds_left=left,
        seconds=seconds,
        deviation=expected / seconds - 1 if expected and seconds else None,
        samples_per_second=rate,
        watts=job.energy.get("mean_watts") if job.is_final else now.watts,
        celsius=None if job.is_final else now.celsius,
        throttled=now.throttled if is_running else None,
        samples_per_joule=job.energy.get("samples_per_joule"),
        why_no_energy=why_no_energy(job),
    )


def _together(rows: Sequence[Row]) -> Together:
    active = [row for row in rows if not row.job.is_final]
    left = [row.seconds_left for row in active if row.seconds_left is not None]
    seconds = [row.seconds for row in rows if row.seconds is not None]
    deviations = [row.deviation for row in rows if row.deviation is not None]
    rates = [row.samples_per_second for row in active if row.samples_per_second is not None]
    watts = [row.watts for row in active if row.watts is not None]
    both = [(row.samples_per_second, row.watts) for row in active if row.samples_per_second is not None and row.watts]
    held = [row.throttled for row in rows if row.throttled is not None]
    warm = [(row.celsius, place) for place, row in enumerate(rows) if row.celsius is not None]
    return Together(
        n_jobs=len(rows),
        n_ended=len(rows) - len(active),
        percent=sum(100 if row.job.is_final else row.percent or 0 for row in rows) // len(rows),
        seconds_left=max(left) if left and len(left) == len(active) else None,
        seconds=median(seconds) if seconds else None,
        deviation=median(deviations) if deviations else None,
        samples_per_second=sum(rates) if rates else None,
        n_paced=len(rates),
        watts=sum(watts) if watts else None,
        n_powered=len(watts),
        per_joule=sum(rate for rate, _ in both) / sum(drawn for _, drawn in both) if both else None,
        n_both=len(both),
        hottest=rows[max(warm)[1]] if warm else None,
        n_throttled=sum(map(bool, held)) if held else None,
        n_told=len(held),
    )
