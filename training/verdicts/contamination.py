"""What makes a run unfit to judge a device by, declared here and not after its result is seen. Pure; no Django.

A busy process on a core that a training uses makes its steps 2 to 25 times slower, where its threads wait by spinning.
Involuntary context switches a second and thread then rise from about 6 to 85 on one kernel, and on another, Linux 6.18,
which lets each short task of a quiet machine in at once, from 41 to 77 to 92 to 200. So it is not their number that condemns
a run, but the time that they cost: in which a thread was ready and had no core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FOREIGN_CORES = 0.25  # cores that others kept busy on the mean, beside a training on all of them
FOREIGN_SHARE = 0.5  # of all cores, beside a training on an accelerator, which needs few of them
WAITED_SHARE = 0.05  # of its time, that the job's longest waiting thread was without a core which others had
SWITCHES_A_SECOND = 80.0  # involuntary, for each thread of the job, where the time that they cost was not told
_NAMED = 3  # of others on the device
_FREE_MEASURED_SECONDS = 1.0  # below it a rate of switches says little


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else went on in the measured window, as the job's process saw it; None where it could not be told.

    `foreign_cores` is the CPU time of everybody else on the cores that the job may use, over the window's length;
    `longest_wait_share` what of its length the job's longest waiting thread was ready to run, without a core.
    """

    seconds: float | None
    involuntary_switches: float | None
    foreign_cores: float | None
    threads: float | None
    longest_wait_share: float | None = None
    is_on_accelerator: bool = False

    @property
    def most_foreign_cores(self) -> float:
        return FOREIGN_SHARE * (self.threads or 1.0) if self.is_on_accelerator else FOREIGN_CORES

    @property
    def switches_a_second(self) -> float | None:
        """Involuntary, for each thread; None where the window is too short for a rate."""
        if self.involuntary_switches is None or not self.seconds or self.seconds < _FREE_MEASURED_SECONDS:
            return None
        return self.involuntary_switches / self.seconds / max(1.0, self.threads or 1.0)

    @property
    def lost_share(self) -> float | None:
        """Return what others cost the thread that waited longest: they had no CPU time where it waited for one of its own."""
        if self.longest_wait_share is None or self.foreign_cores is None:
            return self.longest_wait_share
        return min(self.longest_wait_share, self.foreign_cores)


def of_result(result: Mapping[str, object], *, is_on_accelerator: bool = False) -> Surroundings:
    """Read a job's result."""
    return Surroundings(
        seconds=_number(result.get("measured_seconds")),
        involuntary_switches=_number(result.get("involuntary_context_switches")),
        foreign_cores=_number(result.get("foreign_cores")),
        threads=_number(result.get("threads")),
        longest_wait_share=_number(result.get("longest_wait_share")),
        is_on_accelerator=is_on_accelerator,
    )


def markers(around: Surroundings, others_on_device: Sequence[str] = ()) -> list[str]:
    """Return why the run is contaminated, in words; empty where it is clean. `others_on_device` names who had it too."""
    found = []
    if around.foreign_cores is not None and around.foreign_cores > around.most_foreign_cores:
        found.append(
            f"others kept {around.foreign_cores:.1f} of its cores busy (more than {around.most_foreign_cores:g})"
        )
    found += _pushed_off(around)
    if others_on_device:
        more = f" and {len(others_on_device) - _NAMED} more" if len(others_on_device) > _NAMED else ""
        found.append(f"others used the device: {', '.join(others_on_device[:_NAMED])}{more}")
    return found


def _pushed_off(around: Surroundings) -> list[str]:
    rate, lost = around.switches_a_second, around.lost_share
    if rate is None:
        return []
    pushed = f"{rate:.0f} involuntary context switches a second and thread"
    if lost is None:
        return [f"{pushed} (more than {SWITCHES_A_SECOND:g})"] if rate > SWITCHES_A_SECOND else []
    if lost > WAITED_SHARE:
        return [f"{pushed}, which cost a thread {lost:.0%} of its time (more than {WAITED_SHARE:.0%})"]
    return []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
