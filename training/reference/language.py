"""A synthetic language of tokens with something to learn in it, made on the device. Called by the language workloads."""

import torch
from torch import Tensor

from training.reference.device import Device
from training.reference.work import BATCHES

WORDS = 256  # tokens of the language, whatever the vocabulary: a short run already learns which they are
SUCCESSORS = 4  # tokens that may follow a token


def batches(device: Device, batch_size: int, length: int) -> list[Tensor]:
    """Return the batches, `(batch_size, length + 1)` tokens: a walk over a fixed random table of successors."""
    where = device.torch_device
    successors = torch.randint(WORDS, (WORDS, SUCCESSORS), device=where)
    with device.ranks.own_share():
        return [_batch(successors, batch_size, length) for _ in range(BATCHES)]


def _batch(successors: Tensor, batch_size: int, length: int) -> Tensor:
    choices = torch.randint(SUCCESSORS, (batch_size, length), device=successors.device)
    walk = [torch.randint(WORDS, (batch_size,), device=successors.device)]
    for position in range(length):
        walk.append(successors[walk[-1], choices[:, position]])
    return torch.stack(walk, dim=1)


def described(length: int, seed: object) -> str:
    """Return what a result says of these data."""
    return (
        f"synthetic: {BATCHES} batches of sequences of {length} tokens in a language of {WORDS} tokens with {SUCCESSORS} "
        f"successors each, made on the device with seed {seed} and used in turn"
    )
