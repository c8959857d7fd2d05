"""The newest result of each device, or of the devices of a distributed job, and one device's runs over time. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from django.db.models import Max, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast

from fleet.models import Device, Host
from training.judging import metrics
from training.judging.baseline import OWN, POPULATION
from training.judging.metrics import Metric
from training.models import LossAgreement, Outcome, Verdict, accepted_of, ranks_with_hosts
from training.verdicts import history

MODES: Mapping[str, Q] = {
    "all": Q(),
    "eager": ~Q(job__params__compile="on"),
    "compile": Q(job__params__compile="on"),
}
FLAG_Z = -3.0  # outlined: so many robust deviations slower
_FULL_COLOUR = 0.08  # deviation at which the colour is full
_TREND_RUNS = 300
_MANY_HOSTS = 100


@dataclass(frozen=True, slots=True)
class Cell:
    """The newest verdict of a host's slowest device for a workload; `deviation` is faster − 1, `z` negative where slower."""

    verdict: Verdict
    metric: Metric
    value: float | None
    deviation: float | None
    n: int
    z: float | None
    side: str

    @property
    def shade(self) -> int:
        """Return the step of the diverging scale, 0 (slower) to 8 (faster)."""
        share = max(-1.0, min(1.0, (self.deviation or 0.0) / _FULL_COLOUR))
        return round(4 + 4 * share)

    @property
    def is_flagged(self) -> bool:
        return _is_flagged(self.verdict.outcome, self.verdict.agreement, self.z)

    @property
    def place(self) -> float:
        """Return what cells are ordered by: the slowest first, what has no deviation after all that have one."""
        return 1e9 if self.deviation is None else self.deviation

    @property
    def note(self) -> str:
        """Return what stands under the deviation's place where there is none."""
        return self.verdict.get_outcome_display() if self.deviation is None else ""


def newest(mode: str = "all", where: Q | None = None) -> QuerySet[Verdict]:
    """Return the newest verdict of each device and workload."""
    return _newest(_of_devices(mode, where or Q()), "device_key")


def newest_of_teams(mode: str = "all") -> QuerySet[Verdict]:
    """Return the newest verdict of each set of devices and workload, with the hosts of its ranks."""
    found = Verdict.objects.filter(MODES[mode], job__team__isnull=False)
    return _newest(found, "job__team__members").select_related("job__team").prefetch_related(ranks_with_hosts())


def workloads(mode: str = "all") -> set[str]:
    """Return the workloads of which there is any verdict."""
    found = Verdict.objects.filter(MODES[mode], job__ladder_process=None)
    return set(found.order_by().values_list("job__workload", flat=True).distinct())


class Standing(NamedTuple):
    """How a device's, or a host's, newest result that lies furthest below its baseline stands: a cell without its verdict."""

    workload: str
    deviation: float
    n: int
    is_flagged: bool


def slowest_by_device() -> dict[int, Standing]:
    """Return each device's slowest among its newest results that have a deviation, by device id. One query."""
    return _slowest("job__device_id", Q())


def slowest_by_host(host_ids: Sequence[int]) -> dict[int, Standing]:
    """Return of each of the hosts the newest result that lies furthest below its baseline; hosts without one are missing."""
    is_most = len(host_ids) > _MANY_HOSTS  # their ids make a longer question than all results an answer
    found = _slowest("job__host_id", Q() if is_most else Q(job__host__in=host_ids))
    return {pk: found[pk] for pk in host_ids if pk in found}


def _slowest(subject: str, where: Q) -> dict[int, Standing]:
    """Read columns alone: there may be several for each of thousands of devices, and models take twenty times as long."""
    found: dict[int, Standing] = {}
    rows = Verdict.objects.filter(pk__in=_newest_pks(_of_devices("all", where), "device_key"))
    columns = rows.order_by("pk").values_list(
        subject, "job__workload", "outcome", "agreement", Cast("screens", TextField())
    )
    for key, workload, outcome, agreement, screens in columns:
        side, screen = _screen(metrics.of_workload(workload)[0], orjson.loads(screens))
        deviation = screen.get("deviation")
        if (
            key is not None
            and side
            and deviation is not None
            and (key not in found or deviation < found[key].deviation)
        ):
            is_flagged = _is_flagged(outcome, agreement, None if screen["z"] is None else -screen["z"])
            found[key] = Standing(workload, deviation, screen.get("n", 0), is_flagged)
    return found


def _of_devices(mode: str, where: Q) -> QuerySet[Verdict]:
    """Return the verdicts of single devices; a ladder's processes are another story."""
    found = Verdict.objects.filter(MODES[mode], where, job__ladder_process=None, job__team=None)
    return found.exclude(device_key=None)


def _newest_pks(found: QuerySet[Verdict], subject: str) -> QuerySet[Verdict, Any]:
    groups: QuerySet[Verdict, Any] = found.order_by().values(subject, "job__workload")
    pks: QuerySet[Verdict, Any] = groups.annotate(newest=Max("pk")).values("newest")
    return pks


def _newest(found: QuerySet[Verdict], subject: str) -> QuerySet[Verdict]:
    return (
        Verdict.objects.filter(pk__in=_newest_pks(found, subject))
        .select_related("job__host", "job__device")
        .defer("losses", "agreement_detail", "job__log")
    )


def cell_of(verdict: Verdict) -> Cell:
    """Return what a table shows of the verdict."""
    metric = metrics.of_workload(verdict.job.workload)[0]
    side, found = _screen(metric, verdict.screens)
    z = found.get("z")
    value = verdict.values.get(metric.name)
    return Cell(verdict, metric, value, found.get("deviation"), found.get("n", 0), None if z is None else -z, side)


def _screen(metric: Metric, screens: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Return the side by which a result is judged, and what it says; "" and nothing where neither has enough."""
    own = {row["side"]: row for row in screens if row["metric"] == metric.name}
    side = next((side for side in (POPULATION, OWN) if own.get(side, {}).get("z") is not None), "")
    return side, own.get(side, {})


def _is_flagged(outcome: str, agreement: str, z: float | None) -> bool:
    slow = outcome == Outcome.SLOW or (z is not None and z < FLAG_Z)
    return slow or agreement == LossAgreement.DIFFERS


@dataclass(frozen=True, slots=True)
class Trend:
    """Runs of one device that can be compared, oldest first; `changes` are (when, ratio to before) of lasting ones.

    `accepted` is when a person accepted a new baseline.
    """

    device: Device
    workload: str
    metric: Metric
    verdicts: list[Verdict]
    changes: list[tuple[datetime, float]]
    accepted: list[datetime]

    @property
    def values(self) -> list[float]:
        return [verdict.values[self.metric.name] for verdict in self.verdicts]


def trends(host: Host, workload: str) -> list[Trend]:
    """Return a trend for each device of the host, of the kind of run (parameters, software) that it ran last."""
    found = []
    for device in host.devices.order_by("kind", "index"):
        runs = Verdict.objects.filter(
            device_key=device.pk, job__workload=workload, job__ladder_process=None, job__team=None
        ).exclude(key="")
        last = runs.order_by("-ended_at").first()
        if last is not None:
            found.append(_trend(device, workload, runs.filter(key=last.key)))
    return found


def _trend(device: Device, workload: str, runs: QuerySet[Verdict]) -> Trend:
    metric = metrics.of_workload(workload)[0]
    rows = [
        row
        for row in runs.select_related("job").order_by("-ended_at").defer("losses", "job__log")[:_TREND_RUNS]
        if metric.name in row.values
    ]
    rows.reverse()
    clean = [row for row in rows if row.is_clean]
    changes = history.changes([row.values[metric.name] for row in clean])
    at = [(clean[change.index].ended_at, change.ratio) for change in changes]
    alike = Q(key="") | Q(key=rows[0].key if rows else "")
    accepted = accepted_of(device.pk, Value("")).filter(alike).order_by("since")
    return Trend(device, workload, metric, rows, at, list(accepted.values_list("since", flat=True)))
