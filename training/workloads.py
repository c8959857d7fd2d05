"""The catalogue of reference workloads as data: what the form, the API, the command and the host all read.

A host runs only what stands here, with parameters that `validate` has passed. Imports no Django and no torch; runs on the
job's interpreter too, so nothing outside the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


class ParamsInvalid(ValueError):
    """A workload or a parameter cannot be used; `field` names which, the message says what is expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a workload: an integer within bounds, or one of some words."""

    name: str
    label: str
    kind: Literal["integer", "choice"]
    default: int | str
    help: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> int | str:
        """Return the value. Raises ParamsInvalid where it is of the wrong type or out of bounds."""
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.choices:
                raise ParamsInvalid(self.name, f"{value!r} is not one of {', '.join(self.choices)}")
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            raise ParamsInvalid(self.name, f"{value!r} is not a whole number")
        if not self.minimum <= value <= self.maximum:
            raise ParamsInvalid(self.name, f"{value} is not between {self.minimum} and {self.maximum}")
        return value

    def read(self, text: str) -> int | str:
        """Return the value that a person typed, checked. Raises ParamsInvalid."""
        if self.kind == "integer":
            try:
                return self.check(int(text))
            except ValueError as error:
                if isinstance(error, ParamsInvalid):
                    raise
                raise ParamsInvalid(self.name, f"{text!r} is not a whole number") from None
        return self.check(text)


@dataclass(frozen=True, slots=True)
class Workload:
    """One training job. `sample_unit` is what its throughput counts; `stresses` and `about` are for people."""

    name: str
    title: str
    summary: str
    stresses: str
    about: str
    sample_unit: str
    time_limit_seconds: int
    params: tuple[Param, ...]

    def param(self, name: str) -> Param:
        for param in self.params:
            if param.name == name:
                return param
        known = ", ".join(param.name for param in self.params)
        raise ParamsInvalid(name, f"{self.name} has no such parameter; it has {known}")


def _params(steps: int, sample_unit: str) -> tuple[Param, ...]:
    return (
        Param(
            "steps",
            "Measured steps",
            "integer",
            steps,
            "Optimiser steps whose time counts.",
            minimum=5,
            maximum=100_000,
        ),
        Param(
            "warmup_steps",
            "Warm-up steps",
            "integer",
            5,
            "Steps before the measurement: kernels are chosen, caches fill, clocks rise. Their time does not count.",
            minimum=1,
            maximum=1_000,
        ),
        Param(
            "batch_size",
            "Batch size",
            "integer",
            0,
            f"How many {sample_unit} a step takes; 0 chooses by the device and its memory.",
            minimum=0,
            maximum=4_096,
        ),
        Param(
            "precision",
            "Precision",
            "choice",
            "auto",
            "auto is bf16 on an accelerator that has it, else fp32. bf16 on a CPU needs avx512_bf16 or amx_bf16.",
            choices=("auto", "fp32", "bf16"),
        ),
        Param(
            "seed",
            "Seed",
            "integer",
            1,
            "Of the weights and of the synthetic data.",
            minimum=0,
            maximum=2**31 - 1,
        ),
    )


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            name="resnet-train",
            title="ResNet training",
            summary="Image classification with convolutions: ResNet-50 on an accelerator, ResNet-20 on a CPU.",
            stresses="Convolutions, memory bandwidth (normalisation, activations), kernel launches.",
            about=(
                "Trains a residual network on synthetic images that lie on the device, so that neither disk nor data "
                "loading is measured. On an accelerator it is ResNet-50 with 224 × 224 images and 1,000 classes, on a CPU "
                "ResNet-20 with 32 × 32 images and 10 classes. SGD with momentum, plain eager PyTorch."
            ),
            sample_unit="images",
            time_limit_seconds=900,
            params=_params(60, "images"),
        ),
        Workload(
            name="gpt-train",
            title="GPT training",
            summary="A decoder-only transformer, its size by device: 124 M parameters from 16 GB of device memory on.",
            stresses="Matrix multiplication (tensor cores), attention, the optimiser's memory traffic.",
            about=(
                "Trains a GPT of nanoGPT's shape on a synthetic token language that lies on the device. On an accelerator "
                "of 16 GB and more it is the 124 M model with sequences of 1,024 tokens; below that, and on a CPU, a smaller "
                "one. AdamW, plain eager PyTorch with its fused attention."
            ),
            sample_unit="sequences",
            time_limit_seconds=900,
            params=_params(40, "sequences"),
        ),
    )
}


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
