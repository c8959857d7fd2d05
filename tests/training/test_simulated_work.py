"""How much a step of a simulated run takes on: what its boards can do, so that the fleet's page has an MFU to show."""

import pytest

from telemetry.simulation.boards import BOARDS
from telemetry.simulation.plans import PLANS
from telemetry.simulation.training import Plan
from training.simulation.work import DTYPE, samples_per_step
from training.utilisation.decoder_flops import flops_per_token
from training.utilisation.mfu import RunDevice, mfu


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_language_model_at_full_clocks_reaches_the_mfu_of_its_plan_on_every_board(board):
    plan, n_ranks = PLANS[0], 64
    tokens = samples_per_step(plan, board, n_ranks) * plan.tokens_per_sample
    ranks = [RunDevice(f"GPU-{rank}", board.name, board.memory_bytes) for rank in range(n_ranks)]

    found = mfu(flops_per_token(plan.about["model"]), tokens / plan.step_seconds, ranks, DTYPE)

    assert found.ratio == pytest.approx(plan.mfu, rel=0.1)  # whole samples


def test_a_step_has_a_sample_at_least_and_the_plans_own_where_nothing_is_known_of_its_model():
    assert samples_per_step(PLANS[0], BOARDS["l4"], 1) == 1
    assert samples_per_step(Plan("llm", 10.0, 512, 4096), BOARDS["h100"], 8) == 512
