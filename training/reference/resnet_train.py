"""Training of a residual network on synthetic images: ResNet-50 on an accelerator, ResNet-20 on a CPU. Called by the harness."""

from collections.abc import Mapping
from typing import Any

import torch

from training.reference import images
from training.reference.device import Device
from training.reference.resnet import SHAPES, ResNet
from training.reference.techniques import laid_out
from training.reference.training import About, Training
from training.utilisation.flops import resnet_training_flops_per_image


def build(device: Device, params: Mapping[str, Any]) -> Training:
    tier = device.tier(params["size"])
    shape = SHAPES[tier]
    batch_size = params["batch_size"] or _batch_size(tier, device)
    about = About(
        shape.name,
        resnet_training_flops_per_image(shape),
        images.described(shape.image_size, params["seed"]),
        batch_size,
    )
    batches = images.batches(device, batch_size, shape.image_size)
    network, batches = laid_out(ResNet(shape).to(device.torch_device), batches, params["layout"])
    # 0.1 for a batch of 256 on ImageNet's net, of 128 on CIFAR's (He et al., sections 3.4 and 4.2), scaled with the batch.
    rate = 0.1 * batch_size / (256 if shape.is_bottleneck else 128)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    return Training(device, about, network, optimiser, batches, images.loss)


def _batch_size(tier: str, device: Device) -> int:
    if tier == "large":
        return 128 if (device.memory_bytes or 0) >= 38e9 else 64
    return {"small": 16, "cpu": 64, "ci": 16}[tier]
