"""Prometheus family of the model FLOPs utilisation of runs that step right now, by host. Called by training/exposition.py.

Over the last minute of a run's steps, or the last five where these take longer. A run without FLOPs, dtype or known devices has
no series: nothing of it is read.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from fleet.models import Host
from telemetry.exposition import HOST_LABELS
from telemetry.textformat import Family, Type, label_text, number_text
from training import mfu, run_flops, step_statistics
from training.models import Run
from training.run_flops import run_devices
from training.run_members import Members, members
from training.step_columns import StepColumns
from training.step_store import read

_LABELS = (*HOST_LABELS, "run", "launch")
_COLUMNS = ("number", "seconds", "samples", "tokens", "kind")
_LEAST_MS, _LEAST_STEPS = 60_000, 5


def mfu_ratio(hosts: Sequence[Host], now: datetime) -> Family:
    family = Family(
        "stepwatt_training_mfu_ratio",
        Type.GAUGE,
        "Model FLOPs utilisation of a running run's ranks on a host over its last minute, of its devices' dense peak.",
        _LABELS,
    )
    by_id = {host.pk: host for host in hosts}
    runs = Run.objects.filter(ends_at__gt=now, ranks__host__in=hosts, last_step_at__isnull=False).distinct()
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for run in runs.order_by("name", "launch"):
        for host_id, ratio in _by_host(run):
            if host_id in by_id:
                host = by_id[host_id]
                found.setdefault((host.name, host.cluster, run.name, run.launch), []).append(ratio)
    for labels, ratios in found.items():
        if len(ratios) == 1:  # runs of two users that share these labels are not one: neither speaks for both
            family.add(label_text(_LABELS, labels), number_text(ratios[0]))
    return family


def _by_host(run: Run) -> Iterator[tuple[int, float]]:
    dtype = str(run.description.get("dtype") or "")
    if not dtype or not run_flops.may_be_known(run.description):
        return
    who = members(run)
    known = {device.uuid: device.host_id for device in who.devices}
    devices = [each for each in run_devices(who) if each.uuid in known]
    if mfu.denominator(devices, dtype).flops_per_second is None:
        return
    window = _window(who)
    steps = read.steps(run, window[0], window[1] + 1, columns=_COLUMNS)
    for host in who.hosts:
        own = [each for each in devices if known[each.uuid] == host.pk]
        ranks = [rank.rank for rank in who.ranks if rank.host_id == host.pk]
        ratio = _ratio(run, steps.select(np.isin(steps.rank, ranks)), window, own, dtype)
        if ratio is not None:
            yield host.pk, ratio


def _window(who: Members) -> tuple[int, int]:
    last_ms = max(rank.last_ms for rank in who.ranks)
    usual_ms = max((1000 * rank.seconds / rank.n_steps for rank in who.ranks if rank.n_steps), default=0.0)
    return int(last_ms - max(_LEAST_MS, _LEAST_STEPS * usual_ms)), last_ms


def _ratio(
    run: Run, steps: StepColumns, window: tuple[int, int], devices: Sequence[mfu.RunDevice], dtype: str
) -> float | None:
    """Return the MFU over the window, or what of it the run has lived."""
    if not len(steps):
        return None
    start_ms = max(float(window[0]), float(steps.began_ms.min()))
    rates = step_statistics.rates(steps, start_ms, float(window[1]), 0.0)
    flops = run_flops.run_flops(run.description, rates["samples"], rates["tokens"])
    per_second = rates[flops.unit].per_second
    return mfu.mfu(flops.flops, per_second, devices, dtype).ratio
