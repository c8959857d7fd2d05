"""A decoder-only transformer in plain PyTorch, after nanoGPT (biases off, output tied to the embedding), and its training.

Its size goes by the device. Called by the harness.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.flops import GPT_3M, GPT_14M, GPT_124M, Flops, GptShape, gpt_training_flops_per_sequence
from training.reference.data import BATCHES
from training.reference.device import Device

_WORDS = 256  # tokens of the language, whatever the vocabulary: a short run already learns which they are
_SUCCESSORS = 4  # tokens that may follow a token
_LARGE_DEVICE_BYTES = 15e9  # what a "16 GB" accelerator reports at least


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer of four times the width, each after a norm and around a shortcut."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.width, bias=False)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.attention_out = nn.Linear(shape.width, shape.width, bias=False)
        self.feed_norm = nn.LayerNorm(shape.width, bias=False)
        self.feed_in = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.feed_out = nn.Linear(4 * shape.width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.attention_norm(x))
        out: Tensor = x + self.feed_out(F.gelu(self.feed_in(self.feed_norm(x))))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        heads = self.query_key_value(x).view(batch, time, 3, self._heads, width // self._heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        return out


class Gpt(nn.Module):
    """Embeddings of tokens and positions, the blocks, a norm, and the tied output layer."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # GPT-2's rule: what adds to the residual stream starts smaller, the deeper the model.
                depth = 2 * shape.layers if name.endswith(("attention_out.weight", "feed_out.weight")) else 1
                nn.init.normal_(parameter, std=0.02 / depth**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        features = self.blocks(self.tokens(tokens) + self.positions(positions))
        return F.linear(self.norm(features), self.tokens.weight)


class GptTraining:
    """A model with its optimiser and its data, ready to step."""

    def __init__(self, device: Device, batch_size: int, seed: int) -> None:
        shape = _shape(device)
        self.model = shape.name
        self.batch_size = batch_size or _batch_size(device)
        self.tokens_per_sample: int | None = shape.context
        self.flops: Flops = gpt_training_flops_per_sequence(shape)
        self.data = (
            f"synthetic: {BATCHES} batches of sequences of {shape.context} tokens in a language of {_WORDS} tokens with "
            f"{_SUCCESSORS} successors each, made on the device with seed {seed} and used in turn"
        )
        self._device = device
        self._batches = _sequences(shape, self.batch_size, device.torch_device)
        self._network = Gpt(shape).to(device.torch_device)
        self.parameters = sum(parameter.numel() for parameter in self._network.parameters())
        self._optimiser = torch.optim.AdamW(self._network.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
        self._next = 0

    def step(self) -> float:
        """Train on the next batch and return its loss."""
        sequences = self._batches[self._next % BATCHES]
        self._next += 1
        self._optimiser.zero_grad(set_to_none=True)
        with self._device.autocast():
            logits = self._network(sequences[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._optimiser.step()
        return loss.item()


def _shape(device: Device) -> GptShape:
    if device.memory_bytes is None:
        return GPT_3M
    return GPT_124M if device.memory_bytes >= _LARGE_DEVICE_BYTES else GPT_14M


def _batch_size(device: Device) -> int:
    if device.memory_bytes is None or device.memory_bytes < _LARGE_DEVICE_BYTES:
        return 16
    return 16 if device.memory_bytes >= 38e9 else 8 if device.memory_bytes >= 22e9 else 4


def _sequences(shape: GptShape, batch_size: int, device: torch.device) -> list[Tensor]:
    """Return the batches, `(batch_size, context + 1)` tokens: a walk over a fixed random table of successors."""
    successors = torch.randint(_WORDS, (_WORDS, _SUCCESSORS), device=device)
    batches = []
    for _ in range(BATCHES):
        choices = torch.randint(_SUCCESSORS, (batch_size, shape.context), device=device)
        walk = [torch.randint(_WORDS, (batch_size,), device=device)]
        for position in range(shape.context):
            walk.append(successors[walk[-1], choices[:, position]])
        batches.append(torch.stack(walk, dim=1))
    return batches
