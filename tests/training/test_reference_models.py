"""The models are what their FLOPs were counted for."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.reference import counts, gpt_lora
from training.reference.conv1d_train import Wave
from training.reference.device import Device
from training.reference.gpt import GPT_CI, Gpt
from training.reference.resnet import ResNet
from training.reference.vit import Vit
from training.utilisation import flops
from training.workloads.catalog import WORKLOADS, validate

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


@pytest.mark.parametrize(("shape", "parameters"), [(counts.VIT_B_16, 86_567_656), (counts.VIT_S_16, 22_050_664)])
def test_a_vision_transformer_has_its_published_number_of_parameters(shape, parameters):
    with torch.device("meta"):
        network = Vit(shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("shape", "millions"), [(counts.M18, 3.7), (counts.M11, 1.8), (counts.M5, 0.5)])
def test_a_network_over_waveforms_has_its_published_number_of_parameters(shape, millions):
    """Table 1 of arXiv 1610.00087, which rounds; M5's 0.559 M it cuts to 0.5."""
    with torch.device("meta"):
        network = Wave(shape)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("shape", "network", "sample"),
    [
        (counts.VIT_CI, Vit, (3, 32, 32)),
        (counts.VIT_CPU, Vit, (3, 32, 32)),
        (counts.M18, Wave, (1, 32_000)),
        (counts.M5_CI, Wave, (1, 8_000)),
    ],
)
def test_the_counted_flops_are_those_of_the_operations_that_run(shape, network, sample):
    """The counter is torch's own; it sees the products of an attention that is not fused."""
    macs = counts.vit_forward_macs(shape) if network is Vit else counts.wave_forward_macs(shape)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(shape)(torch.randn(2, *sample))
    assert counter.get_total_flops() == 2 * 2 * macs


def test_a_backward_pass_costs_twice_the_forward_pass():
    network, waves = Wave(counts.M5_CI), torch.randn(2, 1, 8_000, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        network(waves).sum().backward()
    assert counter.get_total_flops() == 2 * counts.trained(counts.wave_forward_macs(counts.M5_CI), "", "").count


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


def test_adapters_begin_as_nothing_and_are_all_that_is_trained():
    torch.manual_seed(1)
    network, tokens = Gpt(GPT_CI), torch.randint(256, (2, 9))
    before = network(tokens)
    trained = gpt_lora.adapt(network)
    torch.testing.assert_close(network(tokens), before)
    names = {name.rpartition(".")[2] for name, each in network.named_parameters() if each.requires_grad}
    assert (names, trained) == ({"down", "up"}, GPT_CI.layers * gpt_lora.RANK * 16 * GPT_CI.width)


def test_frozen_weights_cost_what_was_counted():
    """The first block's input, from a frozen embedding, needs no gradient: a small model costs a little less."""
    network, tokens = Gpt(GPT_CI), torch.randint(256, (1, GPT_CI.context))
    adapters = gpt_lora.adapt(network)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(tokens).sum().backward()
    counted = counts.lora_flops_per_sequence(GPT_CI, adapters)
    assert counter.get_total_flops() == pytest.approx(counted.count, rel=0.06)


def params(workload, **given):
    return validate(workload, {"size": "ci", **given})[1]


TRAININGS = [name for name, workload in WORKLOADS.items() if workload.is_training]


@pytest.mark.parametrize("workload", TRAININGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_in_every_precision(workload, precision):
    """Also where this CPU only emulates it."""
    build = import_module(f"training.reference.{WORKLOADS[workload].module}").build
    torch.manual_seed(1)
    training = build(replace(CPU, precision=precision), params(workload, batch_size=4))
    assert training.verify([training.step() for _ in range(12)])["loss_end"] > 0


@pytest.mark.parametrize("workload", TRAININGS)
def test_the_same_seed_trains_the_same(workload):
    build = import_module(f"training.reference.{WORKLOADS[workload].module}").build
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        built = build(CPU, params(workload, batch_size=2, seed=3))
        losses.append([built.step() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", [name for name, workload in WORKLOADS.items() if workload.is_training])
def test_a_trainings_cpu_size_is_small_enough_for_two_cores(name):
    """1.2 TFLOP in all: 30 s at 40 GFLOP/s, which two cores of a server gave (docs/reference-jobs.md has the times)."""
    workload, params = validate(name, {})

    work = import_module(f"training.reference.{workload.module}").build(CPU, params)

    steps = params["warmup_steps"] + params["steps"]
    assert work.flops.count * work.batch_size * steps <= 1.2e12
    assert f"batch {work.batch_size}" in workload.sizes["cpu"]
