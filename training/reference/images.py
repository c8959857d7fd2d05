"""Synthetic images with something to learn in them, made on the device. Called by the vision workloads."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference.device import Device
from training.reference.work import BATCHES

LABELS = 10  # classes that occur; few, so that a short run already learns


def batches(device: Device, batch_size: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches: `(batch_size, 3, side, side)` images and `(batch_size,)` labels."""
    where = device.torch_device
    patterns = torch.randn(LABELS, 3, 4, 4, device=where)
    patterns = F.interpolate(patterns, size=side, mode="nearest")
    with device.ranks.own_share():
        return [_batch(patterns, batch_size, side) for _ in range(BATCHES)]


def _batch(patterns: Tensor, batch_size: int, side: int) -> tuple[Tensor, Tensor]:
    labels = torch.randint(LABELS, (batch_size,), device=patterns.device)
    noise = torch.randn(batch_size, 3, side, side, device=patterns.device)
    return noise + patterns[labels], labels


def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross entropy of the labels."""
    images, labels = batch
    return F.cross_entropy(network(images), labels)


def described(side: int, seed: object) -> str:
    """Return what a result says of these data."""
    return (
        f"synthetic: {BATCHES} batches of {side} × {side} images in {LABELS} classes, noise around a pattern of the class, "
        f"made on the device with seed {seed} and used in turn"
    )
