"""The API of accepted baselines, for scripts. Included by training/api/jobs.py."""

from datetime import datetime

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict

from fleet.access.auth import actor_of
from fleet.api.access import OPERATOR
from fleet.api.lists import Listed, Page, page_of_query
from fleet.web.api_errors import ApiError
from training.judging import acceptance
from training.models import AcceptedBaseline, Verdict

router = Router()


class AcceptOrder(Schema):
    """`all_workloads` accepts for every kind of run of the device, else for the job's own."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    all_workloads: bool = False


class AcceptedItem(Schema):
    """From `since` on the device is compared with what comes; earlier results are in no baseline."""

    job: int
    host: str
    device: str | None
    workload: str
    all_workloads: bool
    since: datetime
    reason: str
    accepted_by: str
    accepted_at: datetime

    @classmethod
    def of(cls, accepted: AcceptedBaseline) -> "AcceptedItem":
        job = accepted.job
        return cls(
            job=job.pk,
            host=job.host.name,
            device=job.device.uuid if job.device else None,
            workload=job.workload,
            all_workloads=not accepted.key,
            since=accepted.since,
            reason=accepted.reason,
            accepted_by=accepted.accepted_by,
            accepted_at=accepted.accepted_at,
        )


@router.post("/reference/jobs/{int:job_id}/accept", response={201: AcceptedItem}, auth=OPERATOR)
def accept(request: HttpRequest, job_id: int, order: AcceptOrder) -> Status[AcceptedItem]:
    """Accept a job's result as its device's new baseline, after a new driver or a repair."""
    found = Verdict.objects.select_related("job__host", "job__device").filter(job__pk=job_id).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no verdict on a reference job {job_id}", "job_id")
    try:
        accepted = acceptance.accept(
            found, order.reason, is_for_all=order.all_workloads, actor=actor_of(request), now=timezone.now()
        )
    except acceptance.NotAcceptable as refusal:
        raise ApiError(409, "not_acceptable", str(refusal)) from refusal
    return Status(201, AcceptedItem.of(accepted))


@router.get("/reference/baselines", response=Listed[AcceptedItem])
def baselines(request: HttpRequest, page: Query[Page]) -> Listed[AcceptedItem]:
    """List what was accepted as a new baseline, newest first."""
    found = AcceptedBaseline.objects.select_related("job__host", "job__device").defer("job__log")
    return page_of_query(found, page, AcceptedItem.of)
