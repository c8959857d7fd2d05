"""Ways to make the same training faster that change no model: memory layout of convolutions, fused attention and optimiser.

Called by the workloads that take them as parameters; the ladder (training/ladder) climbs them one by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def laid_out(
    network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], layout: str
) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return network and batches of images in the layout: "contiguous" (NCHW in memory) or "channels-last" (NHWC)."""
    if layout == "contiguous":
        return network, list(batches)
    form = torch.channels_last
    laid = network.to(memory_format=form)  # type: ignore[call-overload]  # torch leaves it so
    return laid, [(images.to(memory_format=form), labels) for images, labels in batches]


def choose_attention(kernels: str) -> None:
    """Have scaled_dot_product_attention take its plain formula with kernels "plain", else what torch takes for the best."""
    is_fused = kernels != "plain"
    torch.backends.cuda.enable_flash_sdp(is_fused)
    torch.backends.cuda.enable_mem_efficient_sdp(is_fused)
    torch.backends.cuda.enable_cudnn_sdp(is_fused)
    torch.backends.cuda.enable_math_sdp(True)


def optimiser_options(params: Mapping[str, Any]) -> dict[str, bool]:
    """Return how the optimiser is built: one kernel for all of a step where kernels are "fused"."""
    return {"fused": True} if params["kernels"] == "fused" else {}
