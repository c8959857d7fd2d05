"""What may be why a device was slow: telemetry in the windows of its fresh runs, beside that of runs that were not slow.

A run's own past minutes would be no measure, since the device idled then; so "before" is here the window of a clean earlier run.
Of a distributed job it is the device of the rank that computed longest: the others waited for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.models import Device
from telemetry.store import stays
from training.jobs import teams
from training.judging import foreign
from training.judging.baseline import history, same_devices
from training.models import ReferenceJob, Verdict
from training.runs import causes
from training.runs.cause_evidence import Window, evidence
from training.runs.causes import Evidence, Reading

_BESIDE = "in a sound run"
_EARLIER_MS = 10_000  # the slowest readings come each five seconds


class Span(NamedTuple):
    start_ms: int
    end_ms: int

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000


def of_runs(verdict: Verdict, slow: Sequence[ReferenceJob]) -> dict[str, Any]:
    """Return {"words", "found": [{"name", "words", "evidence", "weight"}], "unseen", "beside"} for the newest slow run."""
    run, why = _waited_for(max(slow, key=lambda job: job.pk))
    span, device = _span(run), run.device
    if span is None or device is None:
        return {"words": "no cause seen: the run's window or its device is not known", "found": [], "unseen": []}
    there, beside = foreign.on_device(run), ""
    others = None if there is None else tuple(map(str, there))
    seen = replace(_seen(device, span), others=others, data_excess_seconds=0.0)  # its data lie on the device
    good = _same_device(_good_run(verdict), device.pk)
    good_span = _span(good) if good else None
    if good is not None and good.device is not None and good_span is not None:
        seen = _with_before(seen, _seen(good.device, good_span), span.seconds / good_span.seconds)
        beside = f"job {good.pk} on {good.host.name}"
    found = causes.causes(seen)
    return {
        "words": f"{why}{found.words}",
        "found": [{"name": c.name, "words": c.words, "evidence": c.evidence, "weight": c.weight} for c in found.found],
        "unseen": list(found.unseen),
        "beside": beside,
    }


def _waited_for(job: ReferenceJob) -> tuple[ReferenceJob, str]:
    """Return (whose device is looked at, why in words): the rank that computed longest, or rank 0 where not all have told."""
    if job.team_id is None:
        return job, ""
    ranks = teams.ranks(job)
    told = [rank.result.get("compute_seconds_median") for rank in ranks]
    known = [seconds for seconds in told if isinstance(seconds, int | float)]
    if not known or len(known) < len(ranks):
        return job, f"{job.place}: "
    longest = ranks[told.index(max(known))]
    return longest, f"{longest.place}, which computed longest: "


def _same_device(good: ReferenceJob | None, device_id: int) -> ReferenceJob | None:
    """Return the rank of a sound distributed job that ran on the device, its rank 0 where none did; a job alone as it is."""
    ranks = [] if good is None else teams.ranks(good)
    return next((rank for rank in ranks if rank.device_id == device_id), good)


def _good_run(verdict: Verdict) -> ReferenceJob | None:
    """Return the newest clean run of the device from before, else of another one."""
    rows = history(verdict).exclude(job_id=verdict.job_id).select_related("job__host", "job__device")
    own = rows.filter(same_devices(verdict.job, verdict.device_key)).first()
    newest = own or rows.first()
    return newest.job if newest else None


def _span(job: ReferenceJob) -> Span | None:
    start, end = job.result.get("window_start_ms"), job.result.get("window_end_ms")
    if isinstance(start, int) and isinstance(end, int) and start < end:
        return Span(start, end)
    return None


def _seen(device: Device, span: Span) -> Evidence:
    """Return what telemetry has of the window, and nothing before it but what the first growth of a counter begins with."""
    node = _node_of_then(device, span)
    earlier_ms = span.start_ms - _EARLIER_MS
    window = Window(earlier_ms, earlier_ms, span.start_ms, span.end_ms)
    nodes = {} if node is None else {device.host_id: node}
    return evidence([device], nodes, window, {}, datetime.fromtimestamp(span.end_ms / 1000, UTC))[device.uuid]


def _node_of_then(device: Device, span: Span) -> Device | None:
    """Return the host as a whole that the device was with, whatever its name is now."""
    hosts = {stay.host_id for stay in stays.of_devices([device], span.start_ms, span.end_ms)[device.pk]}
    nodes = stays.nodes_of(hosts)
    then = stays.of_devices(nodes, span.start_ms, span.end_ms)
    return next((node for node in nodes if any(stay.host_id in hosts for stay in then[node.pk])), None)


def _with_before(seen: Evidence, good: Evidence, times_longer: float) -> Evidence:
    """Return what was seen with that of a sound run beside it; counters grow with the time, so theirs is of one as long."""
    reasons = seen.reasons
    if reasons is not None and good.reasons is not None:
        other = good.reasons
        reasons = {
            bit: Reading(each.during, other[bit].during if bit in other else 0.0) for bit, each in reasons.items()
        }
    gauges, growths = _beside(seen.gauges, good.gauges), _beside(seen.growths, good.growths, times_longer)
    return replace(seen, gauges=gauges, growths=growths, reasons=reasons, beside=_BESIDE)


def _beside(now: Mapping[str, Reading], then: Mapping[str, Reading], times: float = 1.0) -> dict[str, Reading]:
    before = {name: each.during * times for name, each in then.items() if each.during is not None}
    return {name: Reading(each.during, before.get(name)) for name, each in now.items()}
