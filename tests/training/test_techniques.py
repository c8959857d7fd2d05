"""Each technique of the ladder in a real training on the CPU: the same model, the same loss."""

import pytest
import torch

from training.reference import gpt_train, resnet_train, vit_train
from training.reference.device import Device
from training.workloads.catalog import validate

CPU = Device(torch.device("cpu"), "a processor", None, "fp32", 1)
BUILD = {"gpt-train": gpt_train, "vit-train": vit_train, "resnet-train": resnet_train}


def losses(workload: str, n: int = 6, **params: object) -> list[float]:
    torch.manual_seed(1)
    work = BUILD[workload].build(CPU, validate(workload, {"size": "ci", **params})[1])
    return [work.step() for _ in range(n)]


@pytest.mark.parametrize(
    ("workload", "technique"),
    [
        ("resnet-train", {"layout": "channels-last"}),
        ("gpt-train", {"kernels": "plain"}),
        ("gpt-train", {"kernels": "fused"}),
        ("vit-train", {"kernels": "fused"}),
    ],
)
def test_a_technique_changes_no_loss_beyond_rounding(workload, technique):
    assert losses(workload, **technique) == pytest.approx(losses(workload), rel=1e-3)


def test_channels_last_is_how_the_weights_lie():
    work = resnet_train.build(CPU, validate("resnet-train", {"size": "ci", "layout": "channels-last"})[1])

    weight = next(
        parameter for parameter in work.network.parameters() if parameter.dim() == 4 and parameter.shape[1] > 1
    )
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_fused_optimiser_is_the_fused_one():
    work = gpt_train.build(CPU, validate("gpt-train", {"size": "ci", "kernels": "fused"})[1])

    assert work.optimiser.defaults["fused"] is True
