"""Shapes of the reference models beyond GPT and ResNet, and what a sample of them costs, counted from the shape. No torch.

As in training.utilisation.flops: one multiply-accumulate (MAC) is two FLOPs, a backward pass costs twice the forward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from training.utilisation.flops import Flops, GptShape


@dataclass(frozen=True, slots=True)
class VitShape:
    """A vision transformer (Dosovitskiy et al., arXiv 2010.11929): square patches, a class token, learnt positions."""

    name: str
    image_size: int
    patch: int
    classes: int
    layers: int
    heads: int
    width: int

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch) ** 2 + 1


@dataclass(frozen=True, slots=True)
class WaveShape:
    """A convolutional network over raw waveforms (Dai et al., arXiv 1610.00087, table 1).

    First `widths[0]` filters of 80 with stride 4, then stages of `repeats[i]` filters of 3, `widths[i]` wide; a pooling by 4
    after the first layer and after each stage but the last, which the mean over time follows.
    """

    name: str
    samples: int
    classes: int
    widths: tuple[int, ...]
    repeats: tuple[int, ...]


VIT_B_16 = VitShape("ViT-B/16", 224, 16, 1000, layers=12, heads=12, width=768)
VIT_S_16 = VitShape("ViT-S/16", 224, 16, 1000, layers=12, heads=6, width=384)
VIT_CPU = VitShape("ViT 2.7M", 32, 4, 10, layers=6, heads=3, width=192)
VIT_CI = VitShape("ViT 0.1M", 32, 8, 10, layers=2, heads=2, width=64)
M18 = WaveShape("M18", 32_000, 10, (64, 64, 128, 256, 512), (1, 4, 4, 4, 4))
M11 = WaveShape("M11", 32_000, 10, (64, 64, 128, 256, 512), (1, 2, 2, 3, 2))
M5 = WaveShape("M5", 32_000, 10, (128, 128, 256, 512), (1, 1, 1, 1))
M5_CI = WaveShape("M5, an eighth as wide", 8_000, 10, (16, 16, 32, 64), (1, 1, 1, 1))


def vit_forward_macs(shape: VitShape) -> int:
    """Return the MACs of one image: patches, and per layer 12·width² a token and 2·width for each pair of tokens; the head."""
    patches = (shape.tokens - 1) * 3 * shape.patch**2 * shape.width
    layer = shape.tokens * 12 * shape.width**2 + 2 * shape.tokens**2 * shape.width
    return patches + shape.layers * layer + shape.width * shape.classes


def wave_forward_macs(shape: WaveShape) -> int:
    """Return the MACs of one waveform: all convolutions and the last linear layer."""
    return sum(length * out * channels * kernel for channels, out, kernel, length in wave_convolutions(shape)) + (
        shape.widths[-1] * shape.classes
    )


def wave_convolutions(shape: WaveShape) -> Iterator[tuple[int, int, int, int]]:
    """Yield (channels in, channels out, kernel, length of the output) of every convolution."""
    length = shape.samples // 4
    yield 1, shape.widths[0], 80, length
    channels = shape.widths[0]
    for width, repeats in zip(shape.widths[1:], shape.repeats[1:], strict=True):
        length //= 4
        for _ in range(repeats):
            yield channels, width, 3, length
            channels = width


def trained(macs: int, model: str, what: str) -> Flops:
    """Return the FLOPs of a sample's training step: 3 × forward, forward = 2 × MACs."""
    return Flops(
        3 * 2 * macs,
        f"3 × forward, forward = 2 × {macs / 1e6:,.1f} M multiply-accumulates of {what} of {model}; normalisation, "
        "activations and optimiser not counted",
    )


def lora_flops_per_sequence(shape: GptShape, adapters: int) -> Flops:
    """Return the FLOPs of a sequence where the base's weights are frozen: 4N + 6A + 12·L·H·Q·T a token.

    A frozen weight costs the forward pass and the gradient of its input, 4 FLOPs, and no gradient of its own (Hu et al.,
    arXiv 2106.09685, trains only the A parameters of the adapters, at 6); attention as in nanoGPT's count.
    """
    frozen, attention = shape.parameters_without_positions, 12 * shape.layers * shape.width * shape.context
    return Flops(
        (4 * frozen + 6 * adapters + attention) * shape.context,
        f"4N + 6A + 12·L·H·Q·T FLOPs a token: N = {frozen:,} frozen parameters without position embeddings need no gradient "
        f"of their own, A = {adapters:,} of the adapters do; L = {shape.layers}, H·Q = {shape.width}, T = {shape.context}; "
        f"times {shape.context} tokens a sequence",
    )


def generation_flops_per_sequence(shape: GptShape, prompt: int, generated: int) -> Flops:
    """Return the FLOPs of a prompt and what is generated after it: 2 a parameter and token, and attention to what came before.

    The output layer runs once for each generated token. The last token is not fed again.
    """
    fed = prompt + generated - 1
    output = shape.vocabulary * shape.width
    body = 2 * (shape.parameters_without_positions - output) * fed
    attention = 4 * shape.layers * shape.width * fed * (fed + 1) // 2
    return Flops(
        body + attention + 2 * output * generated,
        f"2N + 4·L·H·Q·t FLOPs for each of {fed} fed tokens, t tokens seen by each, N = "
        f"{shape.parameters_without_positions - output:,} parameters without embeddings; and 2 × {output:,} for the output "
        f"layer of each of {generated} generated tokens; L = {shape.layers}, H·Q = {shape.width}",
    )
