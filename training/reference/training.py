"""A training in plain PyTorch: one step is one of the optimiser on the next batch. The training workloads build on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.reference.device import Device
from training.reference.ranks import Gradients
from training.reference.work import BATCHES, falling
from training.utilisation.flops import Flops


@dataclass(frozen=True, slots=True)
class About:
    """What a result says of a training; the fields are those of training.reference.work.Work."""

    model: str
    flops: Flops
    data: str
    batch_size: int
    tokens_per_sample: int | None = None


class Training:
    """A network with its optimiser and its batches, ready to step. `loss(network, batch)` runs in the device's precision.

    `trained` are the parameters that the optimiser changes.
    """

    is_common = False

    def __init__(
        self,
        device: Device,
        about: About,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        batches: Sequence[Any],
        loss: Callable[[nn.Module, Any], Tensor],
        *,
        clips_gradients: bool = False,
    ) -> None:
        self.model, self.flops, self.data = about.model, about.flops, about.data
        self.batch_size, self.tokens_per_sample = about.batch_size, about.tokens_per_sample
        self.parameters: int | None = sum(parameter.numel() for parameter in network.parameters())
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._device = device
        device.ranks.agree(f"{about.model}, batch {about.batch_size}, {device.precision}")
        self._gradients = None if device.ranks.is_alone else Gradients(network, device.ranks)
        self.network = device.compile(self._gradients.network if self._gradients else network)
        self.optimiser = optimiser
        self.batches = batches
        self.loss = loss
        self.clips_gradients = clips_gradients
        self._scaler = device.scaler()
        self._next = 0

    def step(self) -> float:
        """Train on the next batch and return its loss."""
        batch = self.batches[self._next % BATCHES]
        self._next += 1
        if self._gradients:
            self._gradients.begin()
        self.optimiser.zero_grad(set_to_none=True)
        with self._device.autocast():
            loss = self.loss(self.network, batch)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        if self.clips_gradients:
            self._scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.trained, 1.0)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        return loss.item()

    @property
    def compute_seconds(self) -> float | None:
        return self._gradients.compute_seconds if self._gradients else None

    def begin_measuring(self) -> None:
        pass

    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        return falling(losses)

    def figures(self) -> dict[str, Any]:
        return {"trained_parameters": sum(parameter.numel() for parameter in self.trained)}
