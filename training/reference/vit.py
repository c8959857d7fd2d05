"""A vision transformer (Dosovitskiy et al., arXiv 2010.11929) in plain PyTorch, and which runs where."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference.counts import VIT_B_16, VIT_CI, VIT_CPU, VIT_S_16, VitShape

SHAPES = {"large": VIT_B_16, "small": VIT_S_16, "cpu": VIT_CPU, "ci": VIT_CI}


class Block(nn.Module):
    """Self-attention and a feed-forward layer of four times the width, each after a norm and around a shortcut."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.attention_out = nn.Linear(shape.width, shape.width)
        self.feed_norm = nn.LayerNorm(shape.width)
        self.feed_in = nn.Linear(shape.width, 4 * shape.width)
        self.feed_out = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(batch, tokens, 3, self._heads, width // self._heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        out: Tensor = x + self.feed_out(F.gelu(self.feed_in(self.feed_norm(x))))
        return out


class Vit(nn.Module):
    """Patches as tokens beside a class token, positions, the blocks, a norm, and a linear layer on the class token."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.positions = nn.Parameter(torch.empty(1, shape.tokens, shape.width))
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.classifier = nn.Linear(shape.width, shape.classes)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
        logits: Tensor = self.classifier(self.norm(self.blocks(tokens)[:, 0]))
        return logits
