"""Silent corruption in real trainings on the CPU: a weight in which one bit flips, beside sound devices."""

import pytest
import torch

from training.reference import gpt_train, resnet_train
from training.reference.device import Device
from training.verdicts.corruption import Agreement, compare
from training.workloads.catalog import validate

CPU = Device(torch.device("cpu"), "a processor", None, "fp32", 1)
BUILD = {"gpt-train": gpt_train, "resnet-train": resnet_train}
STEPS, FLIPPED_AT = 24, 6
# Bits of a float32: the weight becomes 16 times as large or small, or its opposite.
FACTOR_16, SIGN = 1 << 25, -(1 << 31)


def curve(workload: str, flip: int = 0, threads: int = 1) -> list[float]:
    """Train as a job does, from the same seed; `flip` turns those bits of one weight of the last norm or layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    work = BUILD[workload].build(CPU, validate(workload, {"size": "ci"})[1])
    losses = []
    for step in range(STEPS):
        if flip and step == FLIPPED_AT:
            weight = list(work.network.parameters())[-1].detach().view(-1)[:1]
            weight.view(torch.int32).bitwise_xor_(flip)
        losses.append(work.step())
    torch.set_num_threads(before)
    return losses


@pytest.fixture(scope="module", params=list(BUILD))
def sound(request):
    return request.param, curve(request.param)


def test_the_same_seed_gives_the_same_losses_to_the_last_bit(sound):
    workload, losses = sound

    assert curve(workload) == losses


def test_a_device_that_sums_in_another_order_is_not_accused(sound):
    workload, losses = sound

    found = compare(curve(workload, threads=2), {"b": losses, "c": losses}, "fp32", is_cpu=True)

    assert found.agreement == Agreement.SAME


@pytest.mark.parametrize("flip", [FACTOR_16, SIGN], ids=["exponent", "sign"])
def test_a_flipped_weight_is_found_at_the_step_at_which_it_flipped(sound, flip):
    workload, losses = sound

    found = compare(curve(workload, flip=flip), {"b": losses, "c": losses}, "fp32", is_cpu=True)

    assert found.agreement == Agreement.DIFFERS
    assert FLIPPED_AT <= found.at_step <= FLIPPED_AT + 2
