"""The loss curves of a job and of its peers, and what follows where they differ. Called by the judge."""

import math
from dataclasses import asdict

from django.db.models import Max

from training.jobs import queries
from training.models import LossAgreement, ReferenceJob, Verdict
from training.verdicts import corruption
from training.verdicts.corruption import Agreement

_MOST_STEPS = 2_000  # of a curve; later ones say nothing that earlier ones do not
_MOST_PEERS, _MOST_AGAIN = 100, 20
_WORDS = {
    Agreement.SAME: LossAgreement.SAME,
    Agreement.DIFFERS: LossAgreement.DIFFERS,
    Agreement.UNKNOWN: LossAgreement.UNKNOWN,
}


def curve(job: ReferenceJob) -> list[float | None]:
    """Return the losses by step, from the first warm-up step on; null where a step or its loss did not arrive."""
    by_number = queries.losses(job, _MOST_STEPS)
    return [by_number.get(number) for number in range(1, max(by_number, default=0) + 1)]


def compare(verdict: Verdict) -> None:
    """Set how the verdict's losses agree with those of other devices. Does not save."""
    if not any(loss is not None for loss in verdict.losses):
        verdict.agreement, verdict.agreement_reason = LossAgreement.UNKNOWN, "no losses have arrived"
        return
    device = verdict.job.device
    is_cpu = device is not None and not device.is_accelerator
    found = corruption.compare(
        _numbers(verdict.losses), _peers(verdict), str(verdict.key_parts["chosen"].get("precision")), is_cpu=is_cpu
    )
    verdict.agreement, verdict.agreement_reason = _WORDS[found.agreement], found.reason
    detail = asdict(found)
    verdict.agreement_detail = {
        **{name: detail[name] for name in ("n_peers", "at_step", "difference", "tolerance")},
        "reference": [None if math.isnan(loss) else loss for loss in found.reference],
    }


def compare_undecided(newest: Verdict) -> None:
    """Compare those again that had too few peers before this one came: the first of three devices may be the corrupt one."""
    if newest.agreement == LossAgreement.UNKNOWN:
        return
    waiting = Verdict.objects.filter(key=newest.key, agreement=LossAgreement.UNKNOWN).exclude(losses=[])
    for verdict in waiting.select_related("job__device")[:_MOST_AGAIN]:
        compare(verdict)
        if verdict.agreement != LossAgreement.UNKNOWN:
            fields = {name: getattr(verdict, name) for name in ("agreement", "agreement_reason", "agreement_detail")}
            Verdict.objects.filter(pk=verdict.pk).update(**fields)


def _peers(verdict: Verdict) -> dict[str, list[float]]:
    """Return the newest curve of each other device, by its id."""
    others = Verdict.objects.filter(key=verdict.key).exclude(device_key=verdict.device_key).exclude(device_key=None)
    newest = (
        others.exclude(losses=[])
        .values("device_key")
        .annotate(newest=Max("pk"))
        .order_by()
        .values("newest")[:_MOST_PEERS]
    )
    rows = Verdict.objects.filter(pk__in=list(newest.values_list("newest", flat=True)))
    return {str(row.device_key): _numbers(row.losses) for row in rows}


def _numbers(losses: list[float | None]) -> list[float]:
    return [math.nan if loss is None else loss for loss in losses]
