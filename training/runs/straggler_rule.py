"""The health rule 'straggler', as data: a rank that keeps the others of its run waiting. Registered when Django starts (apps.py).

Light: what looks (straggler_survey.py, and numpy with it) is loaded where the watch asks, and in no other process.
"""

from datetime import datetime

from fleet.models import Severity
from telemetry.health.rule import Limits, Rule, Scope, Survey, Threshold


def _survey(limits: Limits, now: datetime) -> Survey:
    from training.runs.straggler_survey import StragglerSurvey

    return StragglerSurvey(limits, now)


RULE = Rule(
    "straggler", "Straggler", Severity.WARNING,
    "Compute time before communication of each rank of a running run, against the other ranks and its own past",
    "see the run's page for its cause; run a reference job on this device alone; leave the host out if it stays slow",
    _survey,
    scope=Scope.FLEET,
    own_thresholds=(
        Threshold("excess_ratio", "computes longer than the others by", "ratio", 0.05, 0.05, 10),
        Threshold("clear_excess_ratio", "clear up to", "ratio", 0.03, 0.005, 10),
    ),
    for_seconds=60, clear_seconds=120,
)  # fmt: skip
