"""What a simulated run computes: how many samples a step of its boards takes, so that they reach the MFU of its plan. No Django.

Called by the simulated loops. A step of a plan lasts the same on any board: what a board can do decides its part of the batch.
"""

from telemetry.simulation.boards import Board
from telemetry.simulation.training import Plan
from training.utilisation.decoder_flops import flops_per_token
from training.utilisation.mfu import RunDevice, denominator

DTYPE = "bf16"


def samples_per_step(plan: Plan, board: Board, n_ranks: int) -> float:
    """Return the samples of a step of all ranks together; the plan's own where its model or the board's peak is not known."""
    flops = _flops_per_sample(plan)
    peak = denominator([RunDevice("", board.name, board.memory_bytes)], DTYPE).flops_per_second
    if flops is None or peak is None:
        return plan.samples_per_step
    return max(1, round(plan.mfu * peak * n_ranks * plan.step_seconds / flops))


def _flops_per_sample(plan: Plan) -> float | None:
    if "flops_per_sample" in plan.about:
        return float(plan.about["flops_per_sample"])
    return flops_per_token(plan.about["model"]).count * plan.tokens_per_sample if "model" in plan.about else None
