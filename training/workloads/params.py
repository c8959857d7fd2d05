"""The parameters of reference workloads as data: what each may be, and how it is read from a person's text.

Called by the catalogue. Runs on the job's interpreter too, so nothing outside the standard library.
"""

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


def common(steps: int, unit: str, *, compiles: bool = True, warmup_steps: int = 5) -> tuple[Param, ...]:
    """Return what every workload takes. `unit` is what a step takes many of; `compiles` False where nothing can be."""
    return (
        Param(
            "steps", "Measured steps", "integer", steps, "Steps whose time counts.", minimum=5, maximum=100_000,
        ),
        Param(
            "warmup_steps", "Warm-up steps", "integer", warmup_steps,
            "Steps before the measurement: kernels are chosen or compiled, caches fill, clocks rise. Their time does not count.",
            minimum=1, maximum=1_000,
        ),
        Param(
            "repeats", "Repeats", "integer", 1,
            "How often the measured steps are run, one block after the other, after the one warm-up. The result is their median: "
            "all of them are one run, as they share a process.", minimum=1, maximum=20,
        ),
        Param(
            "batch_size", "Batch size", "integer", 0,
            f"How many {unit} a step takes; 0 chooses by the device and its memory.", minimum=0, maximum=4_096,
        ),
        Param(
            "precision", "Precision", "choice", "auto",
            "auto is bf16 on an accelerator that has it, else fp32. tf32 is NVIDIA's, from compute capability 8.0 on. On a CPU "
            "bf16 needs avx512_bf16 or amx_bf16, fp16 needs avx512_fp16 or amx_fp16.",
            choices=("auto", "fp32", "tf32", "bf16", "fp16"),
        ),
        Param(
            "compile", "Compile", "choice", "off",
            "torch.compile during warm-up, so outside the measured time; a job on a host without a compiler says so."
            if compiles
            else "Not offered: there is no model to compile.",
            choices=("off", "on") if compiles else ("off",),
        ),
        Param(
            "size", "Size", "choice", "auto",
            "auto goes by the device and its memory; ci is tiny, to see that everything works.", choices=("auto", "ci"),
        ),
        Param("seed", "Seed", "integer", 1, "Of the weights and of the data.", minimum=0, maximum=2**31 - 1),
    )  # fmt: skip


LAYOUT = Param(
    "layout", "Memory layout", "choice", "contiguous",
    "channels-last keeps the channels of a pixel side by side, as the matrix units of newer devices want them.",
    choices=("contiguous", "channels-last"),
)  # fmt: skip
KERNELS = Param(
    "kernels", "Kernels", "choice", "default",
    "default has torch's fused attention; plain writes attention out; fused takes a fused optimiser as well.",
    choices=("default", "plain", "fused"),
)  # fmt: skip
