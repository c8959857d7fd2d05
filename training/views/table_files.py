"""The tables of runs and reference jobs as files: base units, what is unknown empty. Called by those pages' views."""

from collections.abc import Iterable, Mapping, Sequence

from django.http import HttpResponse

from fleet.web.csv_answer import csv_answer
from training.jobs.published import Published
from training.ladder.climb import Climbed
from training.models import LadderRun, ReferenceJob, ScheduledVisit
from training.runs.comparison import Difference
from training.views.rank_rows import RankRow
from training.views.repeats import Repeats
from training.views.run_panels import PhaseRow, SlowRow

_JOBS = (
    "job", "host", "origin", "workload", "state", "reason", "device", "device_model", "step_seconds_median",
    "samples_per_second", "tokens_per_second", "achieved_flops_per_second", "mean_watts", "samples_per_joule", "loss_start",
    "loss_end", "created_at",
)  # fmt: skip
_RESULT = ("step_seconds_median", "samples_per_second", "tokens_per_second", "achieved_flops_per_second")
_RANKS = (
    "rank",
    "job",
    "host",
    "device",
    "state",
    "step",
    "total_steps",
    "step_seconds",
    "compute_seconds",
    "waiting_ratio",
)
_RUNGS = (
    "rung", "k", "k_low", "k_high", "verdict", "k_with_compilation", "step_seconds", "compile_seconds", "steps_to_pay",
    "loss_change_ratio", "blocks", "blocks_to_decide", "left_out", "why_not",
)  # fmt: skip


def jobs(name: str, found: Iterable[ReferenceJob]) -> HttpResponse:
    return csv_answer(name, _JOBS, map(_job, found))


def _job(job: ReferenceJob) -> tuple[object, ...]:
    result: Mapping[str, object] = job.result if job.state == "done" else {}
    energy: Mapping[str, object] = job.energy or {}
    return (
        job.pk, job.host.name, job.host.origin, job.workload, job.state, job.reason, *_device(job),
        *(result.get(name) for name in _RESULT), energy.get("mean_watts"), energy.get("samples_per_joule"),
        result.get("loss_start"), result.get("loss_end"), job.created_at,
    )  # fmt: skip


def _device(job: ReferenceJob) -> tuple[str, str]:
    return (job.device.title, job.device.model) if job.device else ("", "")


def ranks(job: ReferenceJob, found: Iterable[RankRow]) -> HttpResponse:
    rows = (
        (r.job.rank, r.job.pk, r.job.host.name, _device(r.job)[0], r.job.state, r.step, r.total_steps, r.pace.step_seconds,
         r.pace.compute_seconds, r.pace.waiting_share)
        for r in found
    )  # fmt: skip
    return csv_answer(f"job-{job.pk}-ranks", _RANKS, rows)


def repeats(job: ReferenceJob, found: Repeats | None) -> HttpResponse:
    rows = ((r.number, r.rate, r.deviation, r.step_seconds) for r in (found.rows if found else ()))
    return csv_answer(
        f"job-{job.pk}-repeats", ("repeat", "samples_per_second", "deviation_ratio", "step_seconds_median"), rows
    )


def published(job: ReferenceJob, found: Iterable[Published]) -> HttpResponse:
    rows = ((each.what, each.value, each.measured, each.unit, each.share, each.source) for each in found)
    return csv_answer(f"job-{job.pk}-published", ("what", "published", "measured", "unit", "ratio", "source"), rows)


def slow_steps(name: str, found: Iterable[SlowRow]) -> HttpResponse:
    rows = ((r.number, r.at, r.seconds, r.times, r.where, r.cause, "; ".join(r.evidence)) for r in found)
    return csv_answer(
        name, ("step", "ended_at", "seconds", "of_the_median", "rank", "likeliest_cause", "evidence"), rows
    )


def phases(name: str, found: Iterable[PhaseRow]) -> HttpResponse:
    return csv_answer(name, ("phase", "seconds", "ratio"), ((row.name, row.seconds, row.share) for row in found))


def comparison(name: str, other: str, found: Iterable[Difference]) -> HttpResponse:
    rows = ((row.label, row.unit, row.own, row.other, row.ratio) for row in found)
    return csv_answer(f"{name}-against-{other}", ("figure", "unit", name, other, "difference_ratio"), rows)


def ladders(found: Iterable[LadderRun]) -> HttpResponse:
    rows = (
        (run.pk, run.workload, run.host.name, run.state, run.device.title if run.device else "",
         run.device.model if run.device else "", len(run.order), run.requested_by, run.created_at)
        for run in found
    )  # fmt: skip
    head = ("ladder", "workload", "host", "state", "device", "device_model", "blocks", "asked_for_by", "created_at")
    return csv_answer("ladders", head, rows)


def rungs(run: LadderRun, found: Iterable[Climbed]) -> HttpResponse:
    return csv_answer(f"ladder-{run.pk}", _RUNGS, map(_rung, found))


def _rung(rung: Climbed) -> tuple[object, ...]:
    steady, whole = rung.steady, rung.with_compilation
    of_k = (None,) * 4 if steady is None else (steady.k, steady.low, steady.high, steady.word)
    return (
        rung.name, *of_k, whole.k if whole else None, rung.step_seconds, rung.compile_seconds, rung.steps_to_pay,
        rung.loss_change, steady.n_blocks if steady else None, steady.blocks_to_decide if steady else None,
        len(rung.left_out), rung.why_not,
    )  # fmt: skip


def visits(name: str, found: Iterable[ScheduledVisit]) -> HttpResponse:
    rows = (
        (
            v.host.name,
            v.job_id,
            v.why,
            v.job.state if v.job else "",
            v.job.reason if v.job else v.outcome,
            v.due_at,
            v.ended_at,
        )
        for v in found
    )
    return csv_answer(f"{name}-started", ("host", "job", "why", "state", "reason", "due_at", "ended_at"), rows)


def curves(name: str, head: Sequence[str], columns: Sequence[Sequence[object]]) -> HttpResponse:
    """Return the columns of a chart as a file; the shorter ones end empty."""
    longest = max(map(len, columns), default=0)
    padded = ([*column, *[None] * (longest - len(column))] for column in columns)
    return csv_answer(name, head, zip(*padded, strict=True))
