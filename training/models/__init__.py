"""Training runs with their steps, and reference jobs. What holds steps only training/step_store reads; others ask it."""

from training.models.jobs import ACTIVE_STATES, FINAL_STATES, JobState, ReferenceJob
from training.models.runs import Run, RunRank, StepChunk

__all__ = ["ACTIVE_STATES", "FINAL_STATES", "JobState", "ReferenceJob", "Run", "RunRank", "StepChunk"]
