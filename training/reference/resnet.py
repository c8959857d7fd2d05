"""Residual networks (He et al., arXiv 1512.03385) in plain PyTorch, and their training on synthetic images.

ResNet-50 on an accelerator, ResNet-20 on a CPU. Called by the harness.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.flops import RESNET_20, RESNET_50, Flops, ResNetShape, resnet_training_flops_per_image
from training.reference.data import BATCHES
from training.reference.device import Device

_LABELS = 10  # classes that occur; few, so that a short run already learns


class Block(nn.Module):
    """Two 3×3 convolutions, or a bottleneck of 1×1, 3×3 (with the stride) and 1×1, around a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, shape: ResNetShape) -> None:
        super().__init__()
        out_channels = width * shape.expansion
        # A block begins as its shortcut (Goyal et al., arXiv 1706.02677, section 5.1): deep nets learn from the first step.
        if shape.is_bottleneck:
            first, second = convolution(channels, width, 1, 1), convolution(width, width, 3, stride)
            last = convolution(width, out_channels, 1, 1, scale=0.0)
            self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        else:
            first, last = convolution(channels, width, 3, stride), convolution(width, width, 3, 1, scale=0.0)
            self.layers = nn.Sequential(first, nn.ReLU(), last)
        keeps_shape = stride == 1 and channels == out_channels
        self.shortcut = nn.Identity() if keeps_shape else convolution(channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, the stages of `shape`, the mean over positions, and a linear layer."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        channels = shape.widths[0]
        if shape.wide_stem:
            self.stem = nn.Sequential(convolution(3, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        else:
            self.stem = nn.Sequential(convolution(3, channels, 3, 1), nn.ReLU())
        blocks = []
        for stage, (count, width) in enumerate(zip(shape.blocks, shape.widths, strict=True)):
            for block in range(count):
                blocks.append(Block(channels, width, 2 if stage > 0 and block == 0 else 1, shape))
                channels = width * shape.expansion
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, shape.classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(images))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int, scale: float = 1.0) -> nn.Sequential:
    """Return a convolution that keeps the size (but for its stride), and batch normalisation that begins with `scale`."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    norm = nn.BatchNorm2d(out_channels)
    nn.init.constant_(norm.weight, scale)
    return nn.Sequential(layer, norm)


class ResNetTraining:
    """A model with its optimiser and its data, ready to step."""

    tokens_per_sample: int | None = None

    def __init__(self, device: Device, batch_size: int, seed: int) -> None:
        shape = RESNET_50 if device.is_cuda else RESNET_20
        self.model = shape.name
        self.batch_size = batch_size or _batch_size(device)
        self.flops: Flops = resnet_training_flops_per_image(shape)
        self.data = (
            f"synthetic: {BATCHES} batches of {shape.image_size} × {shape.image_size} images in {_LABELS} classes, noise around "
            f"a pattern of the class, made on the device with seed {seed} and used in turn"
        )
        self._device = device
        self._batches = _images(shape, self.batch_size, device.torch_device)
        self._network = ResNet(shape).to(device.torch_device)
        self.parameters = sum(parameter.numel() for parameter in self._network.parameters())
        # 0.1 for a batch of 256 on ImageNet's net, of 128 on CIFAR's (He et al., sections 3.4 and 4.2), scaled with the batch.
        rate = 0.1 * self.batch_size / (256 if shape.is_bottleneck else 128)
        self._optimiser = torch.optim.SGD(self._network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
        self._next = 0

    def step(self) -> float:
        """Train on the next batch and return its loss."""
        images, labels = self._batches[self._next % BATCHES]
        self._next += 1
        self._optimiser.zero_grad(set_to_none=True)
        with self._device.autocast():
            loss = F.cross_entropy(self._network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._optimiser.step()
        return loss.item()


def _batch_size(device: Device) -> int:
    if device.memory_bytes is None:
        return 64
    return 128 if device.memory_bytes >= 38e9 else 64 if device.memory_bytes >= 15e9 else 16


def _images(shape: ResNetShape, batch_size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return the batches: `(batch_size, 3, side, side)` images and `(batch_size,)` labels."""
    patterns = torch.randn(_LABELS, 3, 4, 4, device=device)
    patterns = F.interpolate(patterns, size=shape.image_size, mode="nearest")
    batches = []
    for _ in range(BATCHES):
        labels = torch.randint(_LABELS, (batch_size,), device=device)
        noise = torch.randn(batch_size, 3, shape.image_size, shape.image_size, device=device)
        batches.append((noise + patterns[labels], labels))
    return batches
