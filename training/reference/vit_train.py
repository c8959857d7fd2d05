"""Training of a vision transformer on synthetic images. Called by the harness."""

from collections.abc import Mapping
from typing import Any

import torch

from training.reference import images
from training.reference.counts import trained, vit_forward_macs
from training.reference.device import Device
from training.reference.techniques import choose_attention, optimiser_options
from training.reference.training import About, Training
from training.reference.vit import SHAPES, Vit


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    batch_size = params["batch_size"] or {"large": 64, "small": 32, "cpu": 16, "ci": 16}[tier]
    about = About(
        shape.name,
        trained(vit_forward_macs(shape), shape.name, "the linear layers and the attention"),
        images.described(shape.image_size, params["seed"]),
        batch_size,
    )
    batches = images.batches(device, batch_size, shape.image_size)
    network = Vit(shape).to(device.torch_device)
    choose_attention(params["kernels"])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, **optimiser_options(params)
    )
    return Training(device, about, network, optimiser, batches, images.loss, clips_gradients=True)
