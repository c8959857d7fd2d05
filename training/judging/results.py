"""The newest result of each device, or of the devices of a distributed job, and one device's runs over time. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from django.db.models import Max, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast

from fleet.models import Device, Host
from fleet.web.shared_answer import MadeOnce
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
_TREND_RUNS = 300
_MANY_HOSTS = 100
_KEPT_SECONDS = 30  # a deviation changes when a job has ended
_UNTOLD = ("losses", "agreement_detail", "key_parts", "cause", "confirmation", "markers", "job__log", "job__params",
           "job__result", "job__energy")  # fmt: skip


def newest(mode: str, where: Q) -> QuerySet[Verdict]:
    """Return the newest verdict of each device and workload."""
    return _newest(_of_devices(mode, where), "device_key")


def newest_of_teams(mode: str) -> QuerySet[Verdict]:
    """Return the newest verdict of each set of devices and workload, with the hosts of its ranks."""
    found = _newest(Verdict.objects.filter(MODES[mode], job__team__isnull=False), "job__team__members")
    return found.select_related("job__team").defer(*_UNTOLD).prefetch_related(ranks_with_hosts())


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


def slowest_by_device() -> Mapping[int, Standing]:
    """Return each device's slowest among its newest results that have a deviation, by device id, as it was lately."""
    return _standings().by_device


def slowest_by_host(host_ids: Sequence[int]) -> dict[int, Standing]:
    """Return of each of the hosts the newest result that lies furthest below its baseline; hosts without one are missing.

    Of many hosts it is what it was lately: of a fleet the results are as many as devices times workloads.
    """
    is_most = len(host_ids) > _MANY_HOSTS  # their ids make a longer question than all results an answer
    found = _standings().by_host if is_most else _slowest(Q(job__host__in=host_ids)).by_host
    return {pk: found[pk] for pk in host_ids if pk in found}


class _Standings(NamedTuple):
    by_device: Mapping[int, Standing]
    by_host: Mapping[int, Standing]


def _slowest(where: Q) -> _Standings:
    """Read columns alone: there may be several for each of thousands of devices, and models take twenty times as long."""
    by_device, by_host = dict[int, Standing](), dict[int, Standing]()
    columns = (
        newest("all", where)
        .order_by("pk")
        .values_list(
            "job__device_id", "job__host_id", "job__workload", "outcome", "agreement", Cast("screens", TextField())
        )
    )
    for device, host, workload, outcome, agreement, screens in columns:
        deviation, n, z, _ = screened(workload, orjson.loads(screens))
        if deviation is None:
            continue
        standing = Standing(workload, deviation, n, is_flagged(outcome, agreement, z))
        for found, key in ((by_device, device), (by_host, host)):
            if key is not None and (key not in found or deviation < found[key].deviation):
                found[key] = standing
    return _Standings(by_device, by_host)


_standings = MadeOnce(_KEPT_SECONDS, lambda: _slowest(Q()))


def _of_devices(mode: str, where: Q) -> QuerySet[Verdict]:
    """Return the verdicts of single devices; a ladder's processes are another story."""
    found = Verdict.objects.filter(MODES[mode], where, job__ladder_process=None, job__team=None)
    return found.exclude(device_key=None)


def _newest_pks(found: QuerySet[Verdict], subject: str) -> QuerySet[Verdict, Any]:
    groups: QuerySet[Verdict, Any] = found.order_by().values(subject, "job__workload")
    pks: QuerySet[Verdict, Any] = groups.annotate(newest=Max("pk")).values("newest")
    return pks


def _newest(found: QuerySet[Verdict], subject: str) -> QuerySet[Verdict]:
    return Verdict.objects.filter(pk__in=_newest_pks(found, subject))


class Screened(NamedTuple):
    """A result beside the baseline by which it is judged: faster − 1, of how many, by how many robust deviations faster.

    `side` is "" where no baseline has enough to judge it.
    """

    deviation: float | None
    n: int
    z: float | None
    side: str

    @property
    def place(self) -> float:
        """Return what results are ordered by: the slowest first, what has no deviation after all that have one."""
        return 1e9 if self.deviation is None else self.deviation


_NOT_SCREENED = Screened(None, 0, None, "")


def screened(workload: str, screens: Sequence[Mapping[str, Any]]) -> Screened:
    """Return how the workload's first metric stands to the population or, without one, to the device's own history."""
    metric = metrics.of_workload(workload)[0].name
    own = {row["side"]: row for row in screens if row["metric"] == metric}
    for side in (POPULATION, OWN):
        row = own.get(side)
        if row is not None and row.get("z") is not None:
            return Screened(row.get("deviation"), row.get("n", 0), -row["z"], side)
    return _NOT_SCREENED


def is_flagged(outcome: str, agreement: str, z: float | None) -> bool:
    """Tell whether a result is marked in tables: found slow, screened beyond FLAG_Z, or with losses that differ."""
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
