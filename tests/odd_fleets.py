"""Fleets that nobody plans and everybody has: hosts without this or that, odd names and clocks. For tests of what bears them.

Each is a function of the time that it is now (UTC milliseconds), which stores what its hosts told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from fleet.models import Host, Origin
from telemetry.message.batch import DeviceInfo, DeviceKind
from tests.telemetry.batches import GPU, MIG, NODE, enrolled, payload, take

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LONG = "Ä" * 240 + "<b>%s</b>" + "/'\"&" * 60
ODD_NAME = "A<b>100</b>\"'`%d%%/\\ 数\N{RIGHT-TO-LEFT OVERRIDE}&amp;{{ x }}"
CPU = DeviceInfo("CPU-1", DeviceKind.CPU, 0, "AMD EPYC 9654")
AMD = DeviceInfo("AMD-1", DeviceKind.AMD, 0, "AMD Instinct MI300X")
TPU = DeviceInfo("TPU-1", DeviceKind.TPU, 0, "TPU v5e")
READINGS: dict[str, float] = {
    "gpu_utilization_ratio": 0.93, "memory_used_bytes": 69.0 * 2**30, "memory_total_bytes": 80.0 * 2**30,
    "power_draw_watts": 651.0, "power_limit_watts": 700.0, "temperature_celsius": 64.0, "sm_clock_hertz": 1.98e9,
    "sm_clock_max_hertz": 1.98e9, "clock_event_reasons": 0.0, "energy_joules_total": 1e6,
}  # fmt: skip
Fleet = Callable[[int], None]


def tell(now_ms: int, times_ms: Sequence[int], columns: Mapping[str, Sequence[float | None]], host: str = "gpu-a01",
         sequence: int = 0, **about: object) -> None:  # fmt: skip
    take(payload(times_ms, columns, host=host, sequence=sequence, **about), datetime.fromtimestamp(now_ms / 1000, UTC))


def stream(now_ms: int, readings: Mapping[str, float | None] = READINGS, host: str = "gpu-a01", *, minutes: int = 25,
           until_ms: int = 0, every: int = 5, sequence: int = 0, **about: object) -> None:  # fmt: skip
    """Store the same readings each five seconds up to now; energy grows by the power."""
    n = minutes * 60 // every
    end_ms = until_ms or now_ms - 2_000
    times = [end_ms - 1000 * every * (n - 1 - i) for i in range(n)]
    columns = {name: [value] * n for name, value in readings.items()}
    if readings.get("energy_joules_total") is not None:
        columns["energy_joules_total"] = [1e6 + 651.0 * every * i for i in range(n)]
    tell(now_ms, times, columns, host, sequence, sample_seconds=float(every), **about)


def without(*names: str) -> Mapping[str, float | None]:
    return {name: value for name, value in READINGS.items() if name not in names}


def _only(device: DeviceInfo, *names: str) -> Fleet:
    return lambda now_ms: stream(now_ms, {name: READINGS[name] for name in names}, device=device)


def _nobody(now_ms: int) -> None:
    pass


def _no_device(now_ms: int) -> None:
    enrolled(
        heard_at=datetime.fromtimestamp(now_ms / 1000, UTC), last_seen_at=datetime.fromtimestamp(now_ms / 1000, UTC)
    )


def _never_sent(now_ms: int) -> None:
    Host.objects.create(name="silent-one")


def _imported(now_ms: int) -> None:
    enrolled(origin=Origin.IMPORTED)
    stream(now_ms, {"gpu_utilization_ratio": 0.5})


def _one_sample(now_ms: int) -> None:
    tell(now_ms, [now_ms - 3_000], {name: [value] for name, value in READINGS.items()})


def _one_each_hour(now_ms: int) -> None:
    for n in range(6):
        columns = {name: [value] for name, value in READINGS.items()}
        tell(now_ms, [now_ms - 3_000 - (5 - n) * HOUR], columns, sequence=n, sample_seconds=3600.0)


def _gap(now_ms: int) -> None:
    stream(now_ms, until_ms=now_ms - 3 * DAY)
    stream(now_ms, sequence=1)


def _only_old(now_ms: int) -> None:
    stream(now_ms - 20 * DAY)


def _restarts(now_ms: int) -> None:
    times = [now_ms - 2_000 - 5_000 * n for n in reversed(range(300))]
    joules = [float(at % MINUTE) for at in times]
    tell(now_ms, times, {"energy_joules_total": joules, "gpu_utilization_ratio": [0.5] * 300}, sample_seconds=5.0)


def _clock_jumps(now_ms: int) -> None:
    stream(now_ms, until_ms=now_ms - 2 * HOUR, sequence=3)
    stream(now_ms, sequence=1)
    stream(now_ms, until_ms=now_ms - 5 * HOUR, sequence=2)
    stream(now_ms, until_ms=now_ms + 3 * HOUR, sequence=4)


def _moved(now_ms: int) -> None:
    stream(now_ms, host="gpu-a01", until_ms=now_ms - HOUR)
    stream(now_ms, host="gpu-b01")


def _odd_names(now_ms: int) -> None:
    """Hosts, clusters, labels, models and devices that are called alike, oddly, at length or not at all."""
    names = (
        ("node-1", "a", ODD_NAME, "GPU-a/b:c.d"),
        ("Node-1", "A", LONG[:500], "GPU-2"),
        ("node-1.", "<i>%s/'\"", "", "GPU-3"),
        ("node-1-", "数\N{RIGHT-TO-LEFT OVERRIDE}&x=1#?", "Quantum 9000", "GPU-4"),
    )
    for number, (name, cluster, model, uuid) in enumerate(names):
        enrolled(name, cluster=cluster, labels={"rack": f"<{number}>/%'", "a=b": "x" * 500})
        stream(now_ms, host=name, device=replace(GPU, uuid=uuid, model=model))


def _each_lacks_one(now_ms: int) -> None:
    """Hosts that differ in what their device does not tell, or tells alone."""
    told = (
        without("energy_joules_total"), without("sm_clock_hertz", "sm_clock_max_hertz", "clock_event_reasons"),
        without("temperature_celsius"), {"energy_joules_total": 1e6}, {"clock_event_reasons": 0.0},
    )  # fmt: skip
    for number, readings in enumerate(told):
        stream(now_ms, readings, host=f"gpu-{number}", device=replace(GPU, uuid=f"GPU-{number}"))


def _zeroes(now_ms: int) -> None:
    stream(now_ms, dict.fromkeys(without("energy_joules_total"), 0.0))


def _all_nothing(now_ms: int) -> None:
    stream(now_ms, dict.fromkeys(READINGS, None))


def _mig_only(now_ms: int) -> None:
    stream(
        now_ms, {"memory_used_bytes": 2.0**30, "memory_total_bytes": 10.0 * 2**30, "sm_active_ratio": 0.4}, device=MIG
    )


def _mig_in_whole(now_ms: int) -> None:
    stream(now_ms, without("gpu_utilization_ratio"), device=GPU, others=[MIG])


def _removed(now_ms: int) -> None:
    stream(now_ms, host="gpu-gone", device=replace(GPU, uuid="GPU-gone"))
    Host.objects.filter(name="gpu-gone").delete()
    stream(now_ms)


def _mixed(now_ms: int) -> None:
    """A host of each poor kind beside one that tells all: none may spoil what is said of another."""
    for number, fleet in enumerate((CPU, NODE, AMD, TPU)):
        stream(now_ms, {"gpu_utilization_ratio": 0.5}, host=f"poor-{number}", device=fleet)
    stream(now_ms, without("power_draw_watts", "energy_joules_total"), host="wsl", device=replace(GPU, uuid="GPU-wsl"))
    stream(now_ms)


FLEETS: dict[str, Fleet] = {
    "empty": _nobody,
    "no device": _no_device,
    "never sent": _never_sent,
    "CPU only": _only(CPU, "gpu_utilization_ratio", "memory_used_bytes", "memory_total_bytes"),
    "node meter only": _only(NODE, "power_draw_watts"),
    "TPU only": _only(TPU, "gpu_utilization_ratio", "memory_used_bytes", "memory_total_bytes"),
    "no power": lambda now_ms: stream(now_ms, without("power_draw_watts", "energy_joules_total", "power_limit_watts")),
    "no utilisation": lambda now_ms: stream(now_ms, without("gpu_utilization_ratio")),
    "no memory": lambda now_ms: stream(now_ms, without("memory_used_bytes", "memory_total_bytes")),
    "each lacks one": _each_lacks_one,
    "MIG only": _mig_only,
    "MIG in a whole": _mig_in_whole,
    "odd names": _odd_names,
    "imported only": _imported,
    "one sample": _one_sample,
    "one sample an hour": _one_each_hour,
    "gap of days": _gap,
    "only old": _only_old,
    "counter restarts": _restarts,
    "clock jumps": _clock_jumps,
    "moved device": _moved,
    "zeroes": _zeroes,
    "nothing in all": _all_nothing,
    "removed host": _removed,
    "mixed": _mixed,
}
