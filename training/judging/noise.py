"""The fleet's own noise: how runs of one device vary about its median. For the simulation of false alarms and power."""

from collections import defaultdict

import numpy as np

from fleet.models import Origin
from training.judging import metrics
from training.models import Outcome, Verdict
from training.verdicts.characteristic import Measured
from training.verdicts.screening import FEWEST

FEWEST_RUNS = 50  # residuals, below which a simulation from them would only repeat them


def of_fleet(workload: str = "") -> Measured | None:
    """Return the residuals of all clean runs, of one workload where it is named; None where there are too few."""
    real = Verdict.objects.filter(is_clean=True, job__host__origin=Origin.REAL)
    rows = real.exclude(key="").exclude(outcome__in=(Outcome.SLOW, Outcome.FAILED))
    if workload:
        rows = rows.filter(job__workload=workload)
    groups: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for key, device, values in rows.values_list("key", "device_key", "values"):
        if metrics.STEP.name in values:
            groups[key, device].append(float(np.log(values[metrics.STEP.name])))
    parts = [np.array(logs) - np.median(logs) for logs in groups.values() if len(logs) >= FEWEST]
    residuals = np.concatenate(parts) if parts else np.empty(0)
    return Measured(residuals) if residuals.size >= FEWEST_RUNS else None
