"""Parameter-efficient fine-tuning of a GPT by low-rank adapters (Hu et al., arXiv 2106.09685). Called by the harness.

The base is frozen; each linear layer of the blocks gets an adapter. Nothing is downloaded: the base's weights are random by
the seed, which is as fast or slow as trained ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.reference import language
from training.reference.counts import lora_flops_per_sequence
from training.reference.device import Device
from training.reference.gpt import SHAPES, Gpt, batch_size
from training.reference.gpt_finetune import answer_loss
from training.reference.training import About, Training

RANK = 8
ALPHA = 16.0


class Adapted(nn.Module):
    """A frozen linear layer, plus a trained product of two thin matrices that begins as zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.empty(RANK, base.in_features, device=base.weight.device))
        self.up = nn.Parameter(torch.zeros(base.out_features, RANK, device=base.weight.device))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + (x @ self.down.T) @ self.up.T * (ALPHA / RANK)
        return out


def adapt(network: Gpt) -> int:
    """Freeze the network, give each linear layer of its blocks an adapter, and return how many parameters are trained."""
    network.requires_grad_(requires_grad=False)
    for block in network.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(block, name, Adapted(layer))
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    size = params["batch_size"] or batch_size(device, tier)
    batches = language.batches(device, size, shape.context)
    network = Gpt(shape).to(device.torch_device)
    adapters = adapt(network)
    data = language.described(shape.context, params["seed"])
    about = About(
        f"{shape.name} with adapters of rank {RANK}",
        lora_flops_per_sequence(shape, adapters),
        f"{data}; the base's weights random by the same seed",
        size,
        tokens_per_sample=shape.context,
    )
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-3)
    return Training(device, about, network, optimiser, batches, answer_loss)
