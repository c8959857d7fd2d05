"""Training runs with their steps, and reference jobs with what is said of them.

What holds steps only training/steps/store reads; others ask it.
"""

from training.models.acceptances import AcceptedBaseline, accepted_of, replaced
from training.models.jobs import ACTIVE_STATES, FINAL_STATES, JobState, ReferenceJob, ranks_with_hosts
from training.models.ladders import LadderProcess, LadderRun, LadderState
from training.models.runs import FleetMfu, Run, RunLife, RunRank, StepChunk
from training.models.schedules import Schedule, ScheduledVisit, Trigger
from training.models.teams import Team
from training.models.verdicts import FreshRun, LossAgreement, Outcome, Verdict

__all__ = [
    "ACTIVE_STATES", "FINAL_STATES", "AcceptedBaseline", "FleetMfu", "FreshRun", "JobState", "LadderProcess", "LadderRun",
    "LadderState", "LossAgreement", "Outcome", "ReferenceJob", "Run", "RunLife", "RunRank", "Schedule", "ScheduledVisit",
    "StepChunk", "Team", "Trigger", "Verdict", "accepted_of", "ranks_with_hosts", "replaced",
]  # fmt: skip
