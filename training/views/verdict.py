"""The verdict on a job as its page shows it: outcome, comparisons, fresh runs, likely cause; and the button to confirm."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Role
from fleet.web.csv_answer import asked_table, csv_answer
from telemetry.store import latest
from training.jobs import published
from training.judging import acceptance, figures, metrics, suspicion
from training.judging.baseline import SIDE_WORDS
from training.models import LossAgreement, Outcome, ReferenceJob, Verdict
from training.utilisation.mfu import RunDevice
from training.verdicts.confirmation import FRESH_RUNS
from training.views import table_files

MARKS: dict[Outcome, str] = {
    Outcome.PASS: "ok",
    Outcome.SUSPECT: "warn",
    Outcome.SLOW: "crit",
    Outcome.FAILED: "crit",
    Outcome.NO_BASELINE: "idle",
    Outcome.CONTAMINATED: "stale",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One screen in words and numbers; `deviation` is faster − 1 and `z` negative where slower, both None without a baseline."""

    side: str
    metric: str
    unit: str
    median: float | None
    n: int
    n_devices: int
    standing: str
    deviation: float | None
    z: float | None
    outcome: str


@require_safe
def verdict(request: HttpRequest, job_id: int) -> HttpResponse:
    """Show the panel, which the job's page pulls."""
    job = get_object_or_404(ReferenceJob.objects.select_related("host", "device"), pk=job_id)
    files = {
        "comparisons": lambda: _comparisons_file(job),
        "published": lambda: table_files.published(job, _published(job)["published"]),
    }
    return asked_table(request.GET, files) or _panel(request, job)


def _comparisons_file(job: ReferenceJob) -> HttpResponse:
    found = Verdict.objects.filter(job=job).first()
    rows = [_comparison(found, row) for row in found.screens] if found is not None else []
    return csv_answer(f"job-{job.pk}-comparisons", [field.name for field in fields(Comparison)], map(astuple, rows))


@require_POST
@require_role(Role.OPERATOR)
def confirm(request: HttpRequest, job_id: int) -> HttpResponse:
    """Have the result confirmed by fresh runs."""
    found = get_object_or_404(Verdict.objects.select_related("job__host", "job__device"), job__pk=job_id)
    try:
        suspicion.ask(found, timezone.now(), actor_of(request))
    except suspicion.NotConfirmable as refusal:
        return _panel(request, found.job, str(refusal), 409)
    return redirect("training:job", job_id)


@require_POST
@require_role(Role.OPERATOR)
def accept(request: HttpRequest, job_id: int) -> HttpResponse:
    """Accept the result as the device's new baseline, for the reason that the form gives."""
    found = get_object_or_404(Verdict.objects.select_related("job__host", "job__device"), job__pk=job_id)
    is_for_all = request.POST.get("for") == "device"
    try:
        acceptance.accept(
            found, request.POST.get("reason", ""), is_for_all=is_for_all, actor=actor_of(request), now=timezone.now()
        )
    except acceptance.NotAcceptable as refusal:
        return _panel(request, found.job, str(refusal), 409)
    return redirect("training:job", job_id)


def _panel(request: HttpRequest, job: ReferenceJob, wrong: str = "", status: int = 200) -> HttpResponse:
    rows = Verdict.objects.filter(job=job).select_related("job__team").defer("job__log")
    found = rows.first() if job.is_final else None  # a job that was given up may run on: what was said of it is over
    context: dict[str, Any] = {"job": job, "verdict": found, "wrong": wrong}
    fresh_for = Verdict.objects.filter(fresh_runs__job=job).first()
    context["fresh_for"] = fresh_for
    if found is not None:
        context |= {
            "mark": MARKS[Outcome(found.outcome)],
            "comparisons": [_comparison(found, row) for row in found.screens],
            **_published(job),
            "not_judged": [
                (field.replace("_", " "), why) for field, why in metrics.not_judged(job.workload, job.result)
            ],
            "fresh": list(found.fresh_runs.select_related("job__verdict")),
            "fresh_wanted": FRESH_RUNS,
            "waits_for": suspicion.waits_for(found, timezone.now()),
            "accepted": acceptance.newest(found),
            "may_accept": has_role(request, Role.OPERATOR) and acceptance.refusal(found) == "",
            "differs": found.agreement == LossAgreement.DIFFERS,
            "may_confirm": has_role(request, Role.OPERATOR)
            and found.opened_at is None
            and bool(found.key)
            and fresh_for is None,
        }
    return render(request, "training/_verdict.html", context, status=status)


def _published(job: ReferenceJob) -> dict[str, Any]:
    """Return what others published of the device, or why there is nothing: beside the baselines, and never one."""
    if job.device is None or not job.device.is_accelerator or not job.result:
        return {"published": [], "why_not_published": ""}
    newest = latest.of_hosts([job.host]).get(job.host_id)
    state = newest.devices.get(job.device.uuid) if newest is not None else None
    memory = state.values.get("memory_total_bytes") if state is not None else None
    device = RunDevice(job.device.uuid, job.device.model, memory, job.device.profile)
    found, why_not = published.beside(job.workload, job.result, device)
    return {"published": found, "why_not_published": why_not}


def losses(job: ReferenceJob) -> dict[str, Any] | None:
    """Return the chart of both curves where the job's losses differ from its peers'."""
    found = Verdict.objects.filter(job=job, agreement=LossAgreement.DIFFERS).first()
    return None if found is None else figures.losses(found)


def loss_columns(job: ReferenceJob) -> list[Sequence[object]]:
    """Return step, own loss and median of the peers: what the chart of differing losses shows."""
    found = Verdict.objects.filter(job=job, agreement=LossAgreement.DIFFERS).first()
    if found is None:
        return [[], [], []]
    peers: Sequence[object] = found.agreement_detail.get("reference", [])
    return [range(1, max(len(found.losses), len(peers)) + 1), found.losses, peers]


def _comparison(verdict: Verdict, row: dict[str, Any]) -> Comparison:
    metric = metrics.find(verdict.job.workload, row["metric"]) or metrics.STEP
    z = row.get("z")
    return Comparison(
        side=SIDE_WORDS[row["side"]],
        metric=metric.words,
        unit=metric.unit,
        median=row.get("median"),
        n=row["n"],
        n_devices=row.get("n_devices", 0),
        standing=row["standing"],
        deviation=row.get("deviation"),
        z=None if z is None else -z,
        outcome=_outcome(verdict, row),
    )


def _outcome(verdict: Verdict, row: dict[str, Any]) -> str:
    """Return what is said of the one figure: by the fresh runs where they tested it, else by its screen."""
    tested = verdict.confirmation.get(f"{row['side']}/{row['metric']}")
    if tested is not None:
        return Outcome.SLOW.label if tested["is_slow"] else Outcome.PASS.label
    if row.get("z") is None:
        return Outcome.NO_BASELINE.label
    return Outcome.SUSPECT.label if row["z"] > row["alarm_at"] else Outcome.PASS.label
