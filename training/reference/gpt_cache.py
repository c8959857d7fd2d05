"""A GPT that generates: keys and values of what it has read are kept, in memory of a fixed size. Called by gpt_generate.

Sizes never change from token to token, so that a compiled step fits all of them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own customary name

from training.reference.gpt import Block, Gpt
from training.utilisation.flops import GptShape


class Generator:
    """Reads prompts and then generates, for `batch_size` sequences at once, by the greatest logit."""

    def __init__(self, network: Gpt, shape: GptShape, batch_size: int) -> None:
        self._network = network
        self._blocks = [block for block in network.blocks if isinstance(block, Block)]
        weight = network.tokens.weight
        size = (shape.layers, 2, batch_size, shape.heads, shape.context, shape.width // shape.heads)
        self._cache = torch.zeros(size, dtype=weight.dtype, device=weight.device)
        self._positions = torch.arange(shape.context, device=weight.device)

    def read(self, prompts: Tensor) -> Tensor:
        """Read `(batch_size, length)` tokens and return the first generated ones, `(batch_size, 1)`."""
        length = prompts.shape[1]
        x = self._network.tokens(prompts) + self._network.positions(self._positions[:length])
        for layer, block in enumerate(self._blocks):
            query, key, value = block.project(x)
            self._cache[layer, 0, :, :, :length] = key
            self._cache[layer, 1, :, :, :length] = value
            x = block.finish(x, F.scaled_dot_product_attention(query, key, value, is_causal=True))
        return self._choose(x[:, -1:])

    def next(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Feed the `(batch_size, 1)` tokens at `position`, `(1,)`, and return those that follow."""
        x = self._network.tokens(tokens) + self._network.positions(position)
        seen = (self._positions <= position)[None, None, None]
        for layer, block in enumerate(self._blocks):
            query, key, value = block.project(x)
            keys, values = self._cache[layer, 0], self._cache[layer, 1]
            keys.index_copy_(2, position, key)
            values.index_copy_(2, position, value)
            x = block.finish(x, F.scaled_dot_product_attention(query, keys, values, attn_mask=seen))
        return self._choose(x)

    def _choose(self, x: Tensor) -> Tensor:
        return F.linear(self._network.norm(x), self._network.tokens.weight).argmax(dim=-1)
