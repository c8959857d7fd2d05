"""Residual networks (He et al., arXiv 1512.03385) in plain PyTorch, and which of them runs where."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.utilisation.flops import RESNET_20, RESNET_50, ResNetShape

RESNET_8 = ResNetShape("ResNet-8", 32, 10, (1, 1, 1), (16, 32, 64), is_bottleneck=False, wide_stem=False)
SHAPES = {"large": RESNET_50, "small": RESNET_50, "cpu": RESNET_20, "ci": RESNET_8}


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
