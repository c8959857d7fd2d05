"""Fine-tuning of all parameters of a GPT: the loss is of the answer, the second half of each sequence. Called by the harness.

Nothing is downloaded: the weights are random by the seed, which is as fast or slow as trained ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference import language
from training.reference.device import Device
from training.reference.gpt import SHAPES, Gpt, batch_size
from training.reference.training import About, Training
from training.utilisation.flops import gpt_training_flops_per_sequence


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    size = params["batch_size"] or batch_size(device, tier)
    data = language.described(shape.context, params["seed"])
    about = About(
        shape.name,
        gpt_training_flops_per_sequence(shape),
        f"{data}; weights random by the same seed",
        size,
        tokens_per_sample=shape.context,
    )
    batches = language.batches(device, size, shape.context)
    network = Gpt(shape).to(device.torch_device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4, betas=(0.9, 0.95))
    return Training(device, about, network, optimiser, batches, answer_loss, clips_gradients=True)


def answer_loss(network: nn.Module, sequences: Tensor) -> Tensor:
    """Return the mean cross entropy of the tokens of the second half, each from what comes before it."""
    logits = network(sequences[:, :-1])
    answer = logits.shape[1] // 2
    return F.cross_entropy(logits[:, answer:].flatten(0, 1), sequences[:, answer + 1 :].flatten())
