"""A decoder-only transformer in plain PyTorch, after nanoGPT (biases off, output tied to the embedding), and which runs where."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference.device import Device
from training.utilisation.flops import GPT_3M, GPT_14M, GPT_124M, GptShape

GPT_CI = GptShape("GPT 0.1M", layers=2, heads=2, width=64, vocabulary=512, context=32)
SHAPES = {"large": GPT_124M, "small": GPT_14M, "cpu": GPT_3M, "ci": GPT_CI}


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
        query, key, value = self.project(x)
        return self.finish(x, F.scaled_dot_product_attention(query, key, value, is_causal=True))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, each `(batch, heads, time, width / heads)`."""
        batch, time, width = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(batch, time, 3, self._heads, width // self._heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return query, key, value

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Return the block's output, given what its heads made of the values."""
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(x.shape))
        out: Tensor = x + self.feed_out(F.gelu(self.feed_in(self.feed_norm(x))))
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


def batch_size(device: Device, tier: str) -> int:
    """Return how many sequences a training step takes at most in the device's memory, or in some tenths of a second on a CPU."""
    if tier == "large":
        memory = device.memory_bytes or 0
        return 16 if memory >= 38e9 else 8 if memory >= 22e9 else 4
    return {"small": 16, "cpu": 8, "ci": 8}[tier]
