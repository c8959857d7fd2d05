"""The models are what their FLOPs were counted for."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import nn

from training import flops
from training.reference.device import Device
from training.reference.gpt import Gpt
from training.reference.resnet import ResNet
from training.workloads import WORKLOADS

CPU = Device(torch.device("cpu"), "a processor", None, "fp32", 1)


@pytest.mark.parametrize(("shape", "parameters"), [(flops.RESNET_50, 25_557_032), (flops.RESNET_20, 272_474)])
def test_a_resnet_has_its_published_number_of_parameters(shape, parameters):
    with torch.device("meta"):
        network = ResNet(shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("shape", [flops.RESNET_50, flops.RESNET_20], ids=lambda shape: shape.name)
def test_the_counted_macs_are_those_of_the_layers_that_run(shape):
    with torch.device("meta"):
        network = ResNet(shape)
        macs = []
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(lambda layer, _, out: macs.append(out.numel() * layer.weight[0].numel()))
        network(torch.empty(1, 3, shape.image_size, shape.image_size))
    assert sum(macs) == flops.resnet_forward_macs(shape)


@pytest.mark.parametrize("shape", [flops.GPT_124M, flops.GPT_14M, flops.GPT_3M], ids=lambda shape: shape.name)
def test_a_gpt_has_the_parameters_that_were_counted(shape):
    with torch.device("meta"):
        network = Gpt(shape)
    counted = sum(parameter.numel() for parameter in network.parameters()) - network.positions.weight.numel()
    assert counted == shape.parameters_without_positions


def test_a_gpt_does_not_see_the_future():
    torch.manual_seed(1)
    network = Gpt(replace(flops.GPT_3M, context=8))
    tokens = torch.randint(512, (1, 8))
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 512
    torch.testing.assert_close(network(tokens)[:, :-1], network(changed)[:, :-1])


TRAININGS = [name for name, workload in WORKLOADS.items() if workload.is_training]


@pytest.mark.parametrize("workload", TRAININGS)
def test_the_same_seed_trains_the_same(workload):
    build = import_module(f"training.reference.{WORKLOADS[workload].module}").build
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        built = build(CPU, {"batch_size": 2, "seed": 3, "size": "ci"})
        losses.append([built.step() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
