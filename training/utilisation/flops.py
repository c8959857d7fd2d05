"""How many floating-point operations a training sample costs, counted from the model's shape. No torch.

Called by the reference workloads (and by whatever computes an MFU); runs on the job's interpreter, so standard library only.
One multiply-accumulate (MAC) is two FLOPs. A backward pass costs twice the forward pass: one product for the gradient of
the weights, one for the gradient of the inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of one unit (token, sequence, image) with the sentence that says how they were counted."""

    count: int
    method: str


@dataclass(frozen=True, slots=True)
class GptShape:
    """A decoder-only transformer of nanoGPT's form: no biases, embedding tied to the output."""

    name: str
    layers: int
    heads: int
    width: int
    vocabulary: int
    context: int

    @property
    def parameters_without_positions(self) -> int:
        """Token embedding, per layer 12·width² (attention 4, feed-forward 8) and two norms, and the last norm."""
        return self.vocabulary * self.width + self.layers * (12 * self.width**2 + 2 * self.width) + self.width


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """A residual network (He et al., arXiv 1512.03385). `blocks[i]` blocks of base width `widths[i]` a stage.

    A bottleneck is 1×1, 3×3 (which carries the stride, "v1.5"), 1×1 to four times the width; else a block is two 3×3. A
    stage's first block projects its shortcut by a 1×1 where size or channels change. `wide_stem`: 7×7 with stride 2 and
    a 3×3 pooling with stride 2 (ImageNet), else 3×3 (CIFAR).
    """

    name: str
    image_size: int
    classes: int
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    is_bottleneck: bool
    wide_stem: bool

    @property
    def expansion(self) -> int:
        return 4 if self.is_bottleneck else 1


@dataclass(frozen=True, slots=True)
class Convolution:
    """One layer; `out_size` is the side of its square output."""

    in_channels: int
    out_channels: int
    kernel: int
    out_size: int

    @property
    def macs(self) -> int:
        return self.out_size**2 * self.out_channels * self.in_channels * self.kernel**2


RESNET_50 = ResNetShape("ResNet-50", 224, 1000, (3, 4, 6, 3), (64, 128, 256, 512), is_bottleneck=True, wide_stem=True)
RESNET_20 = ResNetShape("ResNet-20", 32, 10, (3, 3, 3), (16, 32, 64), is_bottleneck=False, wide_stem=False)
GPT_124M = GptShape("GPT 124M", layers=12, heads=12, width=768, vocabulary=50_304, context=1024)
GPT_14M = GptShape("GPT 14M", layers=6, heads=6, width=384, vocabulary=8_192, context=512)
GPT_3M = GptShape("GPT 3M", layers=4, heads=4, width=256, vocabulary=512, context=128)


def gpt_training_flops_per_token(shape: GptShape) -> Flops:
    """Return nanoGPT's count: 6N + 12·L·H·Q·T, N without position embeddings.

    Source: nanoGPT model.py, estimate_mfu, after PaLM (arXiv 2204.02311, appendix B).
    """
    weights = 6 * shape.parameters_without_positions
    attention = 12 * shape.layers * shape.heads * (shape.width // shape.heads) * shape.context
    return Flops(
        weights + attention,
        f"6N + 12·L·H·Q·T FLOPs a token (nanoGPT, PaLM appendix B), N = {shape.parameters_without_positions:,} parameters "
        f"without position embeddings, L = {shape.layers}, H = {shape.heads}, Q = {shape.width // shape.heads}, "
        f"T = {shape.context}",
    )


def gpt_training_flops_per_sequence(shape: GptShape) -> Flops:
    """Return the count of one sample, which is a sequence of `context` tokens."""
    token = gpt_training_flops_per_token(shape)
    return Flops(token.count * shape.context, f"{token.method}; times {shape.context} tokens a sequence")


def resnet_convolutions(shape: ResNetShape) -> Iterator[Convolution]:
    """Yield every convolution of the forward pass, from the image to the last stage."""
    size = shape.image_size
    channels = shape.widths[0]
    if shape.wide_stem:
        size //= 2
        yield Convolution(3, channels, 7, size)
        size //= 2
    else:
        yield Convolution(3, channels, 3, size)
    for stage, (blocks, width) in enumerate(zip(shape.blocks, shape.widths, strict=True)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            yield from _block(shape, channels, width, size, stride)
            size //= stride
            channels = width * shape.expansion


def _block(shape: ResNetShape, channels: int, width: int, in_size: int, stride: int) -> Iterator[Convolution]:
    size, out_channels = in_size // stride, width * shape.expansion
    if shape.is_bottleneck:
        yield Convolution(channels, width, 1, in_size)
        yield Convolution(width, width, 3, size)
        yield Convolution(width, out_channels, 1, size)
    else:
        yield Convolution(channels, width, 3, size)
        yield Convolution(width, width, 3, size)
    if stride != 1 or channels != out_channels:
        yield Convolution(channels, out_channels, 1, size)


def resnet_forward_macs(shape: ResNetShape) -> int:
    """Return the MACs of one image: all convolutions and the last linear layer."""
    linear = shape.widths[-1] * shape.expansion * shape.classes
    return sum(convolution.macs for convolution in resnet_convolutions(shape)) + linear


def resnet_training_flops_per_image(shape: ResNetShape) -> Flops:
    """Return 3 × forward, forward = 2 × MACs; normalisation, activations and the optimiser are not counted."""
    macs = resnet_forward_macs(shape)
    return Flops(
        3 * 2 * macs,
        f"3 × forward, forward = 2 × {macs / 1e6:,.1f} M multiply-accumulates of the convolutions and the last layer of "
        f"{shape.name} at {shape.image_size} × {shape.image_size}; normalisation, activations and optimiser not counted",
    )
