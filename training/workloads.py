"""The catalogue of reference workloads as data: what the form, the API, the command and the host all read.

A host runs only what stands here, with parameters that `validate` has passed. Imports no Django and no torch; runs on the
job's interpreter too, so nothing outside the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from training.params import Param, ParamsInvalid, common

TRAINING_FLOPS = "3 × the forward pass, which is 2 × its multiply-adds counted from the layers' shapes"


@dataclass(frozen=True, slots=True)
class Workload:
    """One job, built by `training.reference.<module>` on `framework`. `sample_unit` is what its throughput counts.

    `sizes` says what runs where: large (an accelerator of 16 GB and more), small (a smaller one), cpu, and ci (anywhere,
    when asked for). `flops` says how FLOPs are counted. A job that `is_training` must end with a lower loss than it began
    with; the others check their results. `title`, `summary`, `stresses`, `about` and `needs` are for people.
    """

    name: str
    module: str
    title: str
    summary: str
    stresses: str
    about: str
    sample_unit: str
    sizes: Mapping[str, str]
    flops: str
    params: tuple[Param, ...]
    time_limit_seconds: int = 900
    framework: str = "torch"
    needs: str = "A device of kind nvidia or cpu."
    is_training: bool = True

    def param(self, name: str) -> Param:
        for param in self.params:
            if param.name == name:
                return param
        known = ", ".join(param.name for param in self.params)
        raise ParamsInvalid(name, f"{self.name} has no such parameter; it has {known}")


_ALL = (
    Workload(
        name="resnet-train",
        module="resnet_train",
        title="ResNet training",
        summary="Image classification with convolutions: ResNet-50 on an accelerator, ResNet-20 on a CPU.",
        stresses="Convolutions, memory bandwidth (normalisation, activations), kernel launches.",
        about=(
            "Trains a residual network on synthetic images that lie on the device, so that neither disk nor data "
            "loading is measured. On an accelerator it is ResNet-50 with 224 × 224 images and 1,000 classes, on a CPU "
            "ResNet-20 with 32 × 32 images and 10 classes. SGD with momentum, plain PyTorch."
        ),
        sample_unit="images",
        sizes={
            "large": "ResNet-50, batch 64, from 38 GB on 128",
            "small": "ResNet-50, batch 16",
            "cpu": "ResNet-20, batch 64",
            "ci": "ResNet-8, batch 16",
        },
        flops=TRAINING_FLOPS,
        params=common(60, "images"),
    ),
    Workload(
        name="gpt-train",
        module="gpt_train",
        title="GPT training",
        summary="A decoder-only transformer, its size by device: 124 M parameters from 16 GB of device memory on.",
        stresses="Matrix multiplication (tensor cores), attention, the optimiser's memory traffic.",
        about=(
            "Trains a GPT of nanoGPT's shape on a synthetic token language that lies on the device. On an accelerator "
            "of 16 GB and more it is the 124 M model with sequences of 1,024 tokens; below that, and on a CPU, a smaller "
            "one. AdamW, plain PyTorch with its fused attention."
        ),
        sample_unit="sequences",
        sizes={
            "large": "124 M parameters, 1,024 tokens, batch 4, from 22 GB on 8, from 38 GB on 16",
            "small": "14 M parameters, 512 tokens, batch 16",
            "cpu": "3.3 M parameters, 128 tokens, batch 16",
            "ci": "0.1 M parameters, 32 tokens, batch 8",
        },
        flops="(6N + 12·L·H·Q·T) a token, N without position embeddings (nanoGPT)",
        params=common(40, "sequences"),
    ),
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}


def find(workload_name: object) -> Workload:
    """Return the workload. Raises ParamsInvalid with the field `workload` where there is none of that name."""
    workload = WORKLOADS.get(workload_name) if isinstance(workload_name, str) else None
    if workload is None:
        raise ParamsInvalid("workload", f"{workload_name!r} is not one of {', '.join(WORKLOADS)}")
    return workload


def validate(workload_name: object, params: Mapping[str, object]) -> tuple[Workload, dict[str, int | str]]:
    """Return (workload, every parameter with its value or default). Raises ParamsInvalid."""
    workload = find(workload_name)
    given = {name: workload.param(str(name)).check(value) for name, value in params.items()}
    return workload, {param.name: given.get(param.name, param.default) for param in workload.params}


def read_texts(workload_name: object, texts: Mapping[str, str]) -> dict[str, int | str]:
    """Return the parameters that a form or a command line gave as text; empty ones are left out. Raises ParamsInvalid."""
    workload = find(workload_name)
    return {name: workload.param(name).read(text.strip()) for name, text in texts.items() if text.strip()}
