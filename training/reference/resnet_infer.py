"""Inference by a residual network: latency and throughput by batch. Called by the harness.

A step classifies one batch of each size; with `batch_size` given, of that size alone.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from training.reference import images
from training.reference.device import Device
from training.reference.order import CannotRun
from training.reference.resnet import SHAPES, ResNet
from training.reference.timings import Timings
from training.utilisation.flops import Flops, ResNetShape, resnet_forward_macs

_BATCHES = {"large": (1, 8, 32, 128), "small": (1, 8, 32), "cpu": (1, 4, 16), "ci": (1, 2)}
# How far a sample's logits may differ between batches, in parts of the greatest: other kernels round differently.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


def build(device: Device, params: Mapping[str, Any]) -> "Inference":
    tier = device.tier(params["size"])
    sizes = (params["batch_size"],) if params["batch_size"] else _BATCHES[tier]
    return Inference(device, SHAPES[tier], sizes, params["seed"])


class Inference:
    """A network in its evaluating state, with normalisation as its weights say."""

    tokens_per_sample: int | None = None
    compute_seconds: float | None = None
    is_common = False

    def __init__(self, device: Device, shape: ResNetShape, sizes: Sequence[int], seed: int) -> None:
        macs = resnet_forward_macs(shape)
        self.model, self.batch_size = shape.name, sum(sizes)
        self.flops = Flops(
            2 * macs,
            f"2 × {macs / 1e6:,.1f} M multiply-accumulates of the convolutions and the last layer of {shape.name}; "
            "normalisation and activations not counted",
        )
        self.data = f"{images.described(shape.image_size, seed)}; weights random by the same seed"
        self._device, self._sizes = device, sizes
        pool, _ = images.batches(device, max(sizes), shape.image_size)[0]
        self._batches = [pool[:size].to(device.dtype) for size in sizes]
        self._network = ResNet(shape).to(device.torch_device, device.dtype).eval().requires_grad_(requires_grad=False)
        self.parameters: int | None = sum(parameter.numel() for parameter in self._network.parameters())
        self._run = device.compile(self._network)
        self._timings = Timings()
        self._logits: list[Tensor] = []

    @torch.no_grad()
    def step(self) -> None:
        """Classify a batch of each size, each timed from its start to the end of the device's work."""
        self._logits = []
        for batch in self._batches:
            began = time.perf_counter()
            self._logits.append(self._run(batch))
            self._device.synchronise()
            self._timings.add(_name(len(batch)), time.perf_counter() - began)

    def begin_measuring(self) -> None:
        self._timings.clear()

    @torch.no_grad()
    def verify(self, losses: Sequence[float]) -> dict[str, Any]:
        """The first image has the same logits in every batch, and in fp32 computed image by image without compiling."""
        expected = self._network.float()(self._batches[0][:1].float())[0]
        self._network.to(self._device.dtype)
        scale = expected.abs().max()
        apart = max(((logits[0].float() - expected).abs().max() / scale).item() for logits in self._logits)
        if not apart <= TOLERANCE[self._device.dtype]:
            raise CannotRun(
                f"an image's logits differ by {apart:.3g} of the greatest between batches, so the result is not to be trusted"
            )
        return {
            "check": f"an image's logits agree in batches of {_words(self._sizes)} with those computed alone in fp32"
        }

    def figures(self) -> dict[str, Any]:
        """Return median and p99 latency and the throughput of each batch size."""
        timings, names = self._timings, {_name(size): size for size in self._sizes}
        return {
            "latency_seconds_median": {name: timings.median(name) for name in names},
            "latency_seconds_p99": {name: timings.p99(name) for name in names},
            "batch_samples_per_second": {
                name: size * timings.count(name) / timings.total(name) for name, size in names.items()
            },
        }


def _name(size: int) -> str:
    return f"batch {size}"


def _words(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
