"""What the catalogue says of a reference workload. No Django, no torch; runs on the job's interpreter too."""

from collections.abc import Mapping
from dataclasses import dataclass

from training.workloads.params import Param, ParamsInvalid


@dataclass(frozen=True, slots=True)
class Workload:
    """One job, built by `training.reference.<module>` on `framework`. `sample_unit` is what its throughput counts.

    `sizes` says what runs where: large (an accelerator of 16 GB and more), small (a smaller one), cpu, and ci (anywhere,
    when asked for). `flops` says how FLOPs are counted. A job that `is_training` must end with a lower loss than it began
    with; the others check their results. One that `is_distributable` runs over several devices as ranks of one job. `title`,
    `summary`, `stresses`, `about` and `needs` are for people.
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
    needs: str = "An NVIDIA GPU or a CPU."
    is_training: bool = True
    is_distributable: bool = False

    def param(self, name: str) -> Param:
        for param in self.params:
            if param.name == name:
                return param
        known = ", ".join(param.name for param in self.params)
        raise ParamsInvalid(name, f"{self.name} has no such parameter; it has {known}")
