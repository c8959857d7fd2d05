"""Generation by a GPT: prompts are read, then tokens generated one by one, with cached keys and values. Called by the harness.

Nothing is downloaded: the weights are random by the seed, which is as fast or slow as trained ones.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from training.reference import language
from training.reference.counts import generation_flops_per_sequence
from training.reference.device import Device
from training.reference.gpt import SHAPES, Gpt
from training.reference.gpt_cache import Generator
from training.reference.order import CannotRun
from training.reference.timings import Timings
from training.reference.work import BATCHES
from training.utilisation.flops import GptShape

# How far below the greatest logit a generated token's may lie where the whole sequence is computed again: rounding, in parts
# of the logits' spread.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


def build(device: Device, params: Mapping[str, Any]) -> "Generation":
    tier = device.tier(params["size"])
    batch_size = params["batch_size"] or {"large": 16, "small": 8, "cpu": 4, "ci": 2}[tier]
    return Generation(device, SHAPES[tier], batch_size, params["seed"])


class Generation:
    """Half of the context is prompt, a quarter is generated. A step does both for one batch."""

    parameters: int | None
    compute_seconds: float | None = None
    is_common = False

    def __init__(self, device: Device, shape: GptShape, batch_size: int, seed: int) -> None:
        self._prompt, self._generated = shape.context // 2, shape.context // 4
        self.model, self.batch_size = shape.name, batch_size
        self.tokens_per_sample: int | None = self._generated
        self.flops = generation_flops_per_sequence(shape, self._prompt, self._generated)
        self.data = (
            f"{language.described(self._prompt, seed)} as prompts; weights random by the same seed; {self._generated} tokens "
            "generated after each, by the greatest logit"
        )
        self._device = device
        prompts = language.batches(device, batch_size, self._prompt)
        self._prompts = [tokens[:, : self._prompt] for tokens in prompts]
        self._network = Gpt(shape).to(device.torch_device, device.dtype).requires_grad_(requires_grad=False)
        self.parameters = sum(parameter.numel() for parameter in self._network.parameters())
        generator = Generator(self._network, shape, batch_size)
        self._read, self._next = device.compile(generator.read), device.compile(generator.next)
        positions = range(self._prompt, self._prompt + self._generated - 1)
        self._positions = [torch.tensor([position], device=device.torch_device) for position in positions]
        self._timings = Timings()
        self._steps = 0
        self._last = torch.empty(0)

    @torch.no_grad()
    def step(self) -> None:
        """Generate for the next batch, with the time to the first token and to each further one."""
        prompts = self._prompts[self._steps % BATCHES]
        self._steps += 1
        began = time.perf_counter()
        tokens = [self._read(prompts)]
        began = self._note("first token", began)
        for position in self._positions:
            tokens.append(self._next(tokens[-1], position))
            began = self._note("token", began)
        self._last = torch.cat([prompts, *tokens], dim=1)

    def _note(self, name: str, began: float) -> float:
        self._device.synchronise()
        now = time.perf_counter()
        self._timings.add(name, now - began)
        return now

    def begin_measuring(self) -> None:
        self._timings.clear()

    @torch.no_grad()
    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        """Compute the last batch again, whole and without a cache: each token must have had the greatest logit."""
        logits = self._network(self._last[:, :-1])[:, self._prompt - 1 :].float()
        chosen = logits.gather(2, self._last[:, self._prompt :, None])[..., 0]
        lacking = ((logits.amax(dim=2) - chosen) / logits.std(dim=2)).max().item()
        if not lacking <= TOLERANCE[self._device.dtype]:
            raise CannotRun(
                f"the generated tokens are not the likeliest: computed again without a cache, one lacks {lacking:.3g} of the "
                "logits' spread, so the result is not to be trusted"
            )
        return {
            "check": f"{chosen.numel()} generated tokens computed again without a cache: each has the greatest logit"
        }

    def figures(self) -> dict[str, Any]:
        timings, steps = self._timings, self._timings.count("first token")
        read, generated = self._prompt * self.batch_size * steps, len(self._positions) * self.batch_size * steps
        return {
            "prompt_tokens": self._prompt,
            "generated_tokens": self._generated,
            "prefill_tokens_per_second": read / timings.total("first token"),
            "decode_tokens_per_second": generated / timings.total("token"),
            "first_token_seconds_median": timings.median("first token"),
            "first_token_seconds_p99": timings.p99("first token"),
            "token_seconds_median": timings.median("token"),
            "token_seconds_p99": timings.p99("token"),
        }
