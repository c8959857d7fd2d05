"""Training of a convolutional network over raw waveforms (Dai et al., arXiv 1610.00087), as for short sounds and words.

Called by the harness.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference.counts import M5, M5_CI, M11, M18, WaveShape, trained, wave_forward_macs
from training.reference.device import Device
from training.reference.training import About, Training
from training.reference.work import BATCHES

SHAPES = {"large": M18, "small": M11, "cpu": M5, "ci": M5_CI}
_RATE_HERTZ = 8_000
_LOWEST_HERTZ = 200


class Wave(nn.Module):
    """Convolutions over time, each with batch normalisation, poolings by 4, the mean over time, and a linear layer."""

    def __init__(self, shape: WaveShape) -> None:
        super().__init__()
        layers = [*_convolution(1, shape.widths[0], 80, 4)]
        channels = shape.widths[0]
        for width, repeats in zip(shape.widths[1:], shape.repeats[1:], strict=True):
            layers.append(nn.MaxPool1d(4))
            for _ in range(repeats):
                layers += _convolution(channels, width, 3, 1)
                channels = width
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, shape.classes)

    def forward(self, waves: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(waves).mean(dim=2))
        return logits


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int) -> list[nn.Module]:
    padding = (kernel - stride + 1) // 2
    layer = nn.Conv1d(in_channels, out_channels, kernel, stride, padding=padding, bias=False)
    return [layer, nn.BatchNorm1d(out_channels), nn.ReLU()]


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    batch_size = params["batch_size"] or {"large": 128, "small": 64, "cpu": 8, "ci": 16}[tier]
    seconds = shape.samples / _RATE_HERTZ
    data = (
        f"synthetic: {BATCHES} batches of waveforms of {seconds:g} s at {_RATE_HERTZ / 1000:g} kHz in {shape.classes} classes, a "
        f"tone of the class in noise, made on the device with seed {params['seed']} and used in turn"
    )
    about = About(shape.name, trained(wave_forward_macs(shape), shape.name, "the layers"), data, batch_size)
    with device.ranks.own_share():
        batches = _waves(shape, batch_size, device.torch_device)
    network = Wave(shape).to(device.torch_device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    return Training(device, about, network, optimiser, batches, loss)


def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    waves, labels = batch
    return F.cross_entropy(network(waves), labels)


def _waves(shape: WaveShape, batch_size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return the batches: `(batch_size, 1, samples)` waveforms and `(batch_size,)` labels; a class is an octave third."""
    time = torch.arange(shape.samples, device=device) / _RATE_HERTZ
    batches = []
    for _ in range(BATCHES):
        labels = torch.randint(shape.classes, (batch_size,), device=device)
        hertz = _LOWEST_HERTZ * 2 ** (labels / 3)
        phase = 2 * math.pi * torch.rand(batch_size, 1, device=device)
        tones = torch.sin(2 * math.pi * hertz[:, None] * time + phase)
        noise = torch.randn(batch_size, shape.samples, device=device)
        batches.append(((tones + 0.5 * noise)[:, None], labels))
    return batches
