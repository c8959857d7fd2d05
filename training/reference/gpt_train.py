"""Pre-training of a GPT on a synthetic language, its size by the device. Called by the harness."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference import language
from training.reference.device import Device
from training.reference.gpt import SHAPES, Gpt, batch_size
from training.reference.techniques import choose_attention, optimiser_options
from training.reference.training import About, Training
from training.utilisation.flops import gpt_training_flops_per_sequence


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    size = params["batch_size"] or batch_size(device, tier)
    about = About(
        shape.name,
        gpt_training_flops_per_sequence(shape),
        language.described(shape.context, params["seed"]),
        size,
        tokens_per_sample=shape.context,
    )
    batches = language.batches(device, size, shape.context)
    network = Gpt(shape).to(device.torch_device)
    choose_attention(params["kernels"])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, **optimiser_options(params)
    )
    return Training(device, about, network, optimiser, batches, loss)


def loss(network: nn.Module, sequences: Tensor) -> Tensor:
    """Return the mean cross entropy of each next token."""
    logits = network(sequences[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
