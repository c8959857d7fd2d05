"""Earlier clean runs to compare with: the device's own, and those of the other devices of its model. Reads only."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median

from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from training.judging import metrics
from training.models import Outcome, ReferenceJob, Verdict
from training.verdicts.screening import FEWEST

OWN, POPULATION = "own", "population"
SIDE_WORDS = {OWN: "its own history", POPULATION: "the other devices of its model"}
_OWN_RUNS = 50
_RUNS_A_DEVICE = 3  # so that one device that runs daily does not stand for all
_POPULATION_RUNS = 200
FEWEST_DEVICES = 2  # other devices, below which nobody can say which of them is unusual


@dataclass(frozen=True, slots=True)
class Baseline:
    """Values of one metric, newest run first, of `n_devices` devices."""

    side: str
    values: tuple[float, ...]
    n_devices: int


def history(verdict: Verdict, *, without: Collection[int] = ()) -> QuerySet[Verdict]:
    """Return the clean runs that ended before the verdict's on devices like its own, newest first.

    One that is suspect or was found to be slow is no measure for others, and what it was confirmed by neither.
    """
    found = Verdict.objects.filter(key=verdict.key, is_clean=True, ended_at__lt=verdict.ended_at)
    confirmed_slow = Q(job__fresh_for__verdict__outcome=Outcome.SLOW)
    return (
        found.exclude(outcome__in=(Outcome.SLOW, Outcome.SUSPECT))
        .exclude(confirmed_slow)
        .exclude(job_id__in=without)
        .order_by("-ended_at")
    )


def own(verdict: Verdict, metric: str, *, without: Collection[int] = ()) -> Baseline:
    rows = history(verdict, without=without).filter(same_devices(verdict.job, verdict.device_key))[:_OWN_RUNS]
    values = _values(rows, metric)
    return Baseline(OWN, values, int(bool(values)))


def population(verdict: Verdict, metric: str) -> Baseline:
    """Return the newest runs of each other device; none where there are too few devices to tell which is unusual."""
    others = history(verdict).exclude(same_devices(verdict.job, verdict.device_key)).exclude(device_key=None)
    place = Window(RowNumber(), partition_by=F("device_key"), order_by=F("ended_at").desc())
    rows = list(others.annotate(place=place).filter(place__lte=_RUNS_A_DEVICE)[:_POPULATION_RUNS])
    n_devices = len({row.device_key for row in rows})
    return Baseline(POPULATION, _values(rows, metric) if n_devices >= FEWEST_DEVICES else (), n_devices)


def both(verdict: Verdict, metric: str, *, without: Collection[int] = ()) -> list[Baseline]:
    return [own(verdict, metric, without=without), population(verdict, metric)]


def expected(job: ReferenceJob) -> tuple[float, int] | None:
    """Return (median step of the device's earlier clean runs with these parameters, seconds; how many), to run against.

    Of a job that runs, the rest of its key is not known yet. None where there are too few.
    """
    alike = Verdict.objects.filter(
        same_devices(job, job.device_id), job__workload=job.workload, job__params=job.params, is_clean=True,
        job__team__isnull=job.team is None,
    )  # fmt: skip
    earlier = alike.filter(job__created_at__lt=job.created_at).exclude(outcome__in=(Outcome.SLOW, Outcome.SUSPECT))
    newest = earlier.exclude(key="").order_by("-ended_at").first()
    if newest is None:
        return None
    values = _values(earlier.filter(key=newest.key).order_by("-ended_at")[:_OWN_RUNS], metrics.STEP.name)
    return (median(values), len(values)) if len(values) >= FEWEST else None


def same_devices(job: ReferenceJob, device_key: int | None) -> Q:
    """Return what finds the device's verdicts among those of a key; of a distributed job all devices must be the same."""
    return Q(device_key=device_key) if job.team is None else Q(job__team__members=job.team.members)


def _values(rows: Iterable[Verdict], metric: str) -> tuple[float, ...]:
    return tuple(float(row.values[metric]) for row in rows if metric in row.values)
