"""Programs of others on a job's device within its measured window, from the driver's lists. Called by the judge. Reads only."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fleet import units
from telemetry.message.wire import DeviceProcess
from telemetry.store import users
from training.jobs import occupancy
from training.jobs.occupancy import is_ours, who
from training.models import ReferenceJob, RunRank


@dataclass(slots=True)
class Foreign:
    """One process that was no part of the job: when it was first and last seen on the device, and the most that it used."""

    process: DeviceProcess
    first_ms: int
    last_ms: int
    sm_ratio: float | None

    def __str__(self) -> str:
        share = "" if self.sm_ratio is None else f", up to {self.sm_ratio:.0%} of its SMs"
        used = self.process.memory_bytes
        memory = "" if used is None else f", {units.quantity(used, 'bytes')}"
        return f"{who(self.process)}{share}{memory}, seen {_time(self.first_ms)} to {_time(self.last_ms)}"


def on_device(job: ReferenceJob) -> list[Foreign] | None:
    """Return the other processes that the driver listed in the job's window; None where nobody looked, as on a CPU."""
    start, end = job.result.get("window_start_ms"), job.result.get("window_end_ms")
    if job.device is None or not job.device.is_accelerator or not isinstance(start, int) or not isinstance(end, int):
        return None
    told = RunRank.objects.filter(run=job.run_id, host=job.host_id).values_list("pid", flat=True) if job.run_id else ()
    own = {pid for pid in told if pid is not None}
    found: dict[tuple[int, bool], Foreign] = {}  # one that draws and later computes is both
    lists = users.between(job.device, start, end)
    for at_ms, processes in lists:
        for process in _others(processes, own):
            seen = found.setdefault((process.pid, process.only_draws), Foreign(process, at_ms, at_ms, None))
            seen.last_ms = at_ms
            seen.process = max(seen.process, process, key=lambda each: each.memory_bytes or 0)
            seen.sm_ratio = max(
                (share for share in (seen.sm_ratio, process.sm_ratio) if share is not None), default=None
            )
    return _that_use(list(found.values())) if lists else None


def _that_use(found: list[Foreign]) -> list[Foreign]:
    """Leave out a display server that had little memory and was at rest throughout (occupancy.py)."""
    at_most = [replace(each.process, sm_ratio=each.sm_ratio) for each in found]
    return [each for each in found if not each.process.only_draws] if occupancy.displays(at_most) else found


def _others(processes: Collection[DeviceProcess], own: Collection[int | None]) -> list[DeviceProcess]:
    """Leave out the job's own: by number, as the host counts it, or by what it runs.

    Where it is not among them, as for an agent in another PID namespace than the driver's, one of those without a name is it.
    """
    others = [each for each in processes if each.pid not in own and not is_ours(each)]
    hidden = [each for each in others if each.is_hidden and not each.only_draws]
    if len(others) == len(processes) and hidden:
        others.remove(hidden[0])
    return others


def _time(at_ms: int) -> str:
    return units.utc(datetime.fromtimestamp(at_ms / 1000, UTC))
