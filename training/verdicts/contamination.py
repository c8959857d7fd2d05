"""What makes a run unfit to judge a device by, declared here and not after its result is seen. Pure; no Django.

A busy process on a core that a training uses makes its steps 10 to 25 times slower, where its threads wait by spinning;
involuntary context switches then rise from about 120 to 1,700 in a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FOREIGN_CORES = 0.25  # cores that others kept busy on the mean, beside a training on all of them
FOREIGN_SHARE = 0.5  # of all cores, beside a training on an accelerator, which needs few of them
SWITCHES_A_SECOND = 40.0  # involuntary, for each thread of the job
_NAMED = 3  # of others on the device
_FREE_MEASURED_SECONDS = 1.0  # below it a rate of switches says little


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else went on in the measured window, as the job's process saw it; None where it could not be told.

    `foreign_cores` is the CPU time of everybody else on the cores that the job may use, over the window's length.
    """

    seconds: float | None
    involuntary_switches: float | None
    foreign_cores: float | None
    threads: float | None
    is_on_accelerator: bool = False

    @property
    def most_foreign_cores(self) -> float:
        return FOREIGN_SHARE * (self.threads or 1.0) if self.is_on_accelerator else FOREIGN_CORES


def of_result(result: Mapping[str, object], *, is_on_accelerator: bool = False) -> Surroundings:
    """Read a job's result."""
    return Surroundings(
        seconds=_number(result.get("measured_seconds")),
        involuntary_switches=_number(result.get("involuntary_context_switches")),
        foreign_cores=_number(result.get("foreign_cores")),
        threads=_number(result.get("threads")),
        is_on_accelerator=is_on_accelerator,
    )


def markers(around: Surroundings, others_on_device: Sequence[str] = ()) -> list[str]:
    """Return why the run is contaminated, in words; empty where it is clean. `others_on_device` names who had it too."""
    found = []
    if around.foreign_cores is not None and around.foreign_cores > around.most_foreign_cores:
        found.append(
            f"others kept {around.foreign_cores:.1f} of its cores busy (more than {around.most_foreign_cores:g})"
        )
    seconds = around.seconds or 0.0
    if around.involuntary_switches is not None and seconds >= _FREE_MEASURED_SECONDS:
        rate = around.involuntary_switches / seconds / max(1.0, around.threads or 1.0)
        if rate > SWITCHES_A_SECOND:
            found.append(
                f"{rate:.0f} involuntary context switches a second and thread (more than {SWITCHES_A_SECOND:g})"
            )
    if others_on_device:
        more = f" and {len(others_on_device) - _NAMED} more" if len(others_on_device) > _NAMED else ""
        found.append(f"others used the device: {', '.join(others_on_device[:_NAMED])}{more}")
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
