"""Runs that nobody plans and everybody has: of one step, of none that trains, of loops that say nonsense. For tests.

Each is a function of the time that it is now (UTC milliseconds), which stores what its processes told.
"""

from collections.abc import Callable, Mapping

from fleet.models import Device, Host
from tests.factories import make_chunks, make_device, make_host
from tests.training.stored_steps import columns, enter
from training.message.wire import MOST_RANKS
from training.models import Run

HOUR, NAN = 3_600_000, float("nan")
FULL: Mapping[str, object] = {
    "samples_per_step": 16, "tokens_per_sample": 1024, "flops_per_sample": 5e13, "dtype": "bf16", "framework": "torch",
}  # fmt: skip
NONSENSE: tuple[Mapping[str, object], ...] = (
    {
        "samples_per_step": "many",
        "flops_per_sample": "x",
        "dtype": {"a": 1},
        "tokens_per_sample": None,
        "framework": None,
    },
    {"samples_per_step": 0, "flops_per_sample": 0, "tokens_per_sample": 0, "dtype": "int3"},
    {"samples_per_step": -5, "flops_per_sample": -1e13, "tokens_per_sample": -2},
    {"samples_per_step": 2**62, "flops_per_sample": 1e300, "tokens_per_sample": 1e300, "dtype": "bf16"},
    {"model": {"a": {"b": 1}}, "framework": 3, "<b>": "</script><b>%s"},
    {"samples_per_step": True, "flops_per_sample": False, "dtype": 5},
)
OddRun = Callable[[int], object]


def told(now_ms: int, *seconds: float, name: str = "llm", host: Host | None = None, newest_sequence: int = -1,
         teller: Mapping[str, object] | None = None, **steps: object) -> Run:  # fmt: skip
    """Store steps of these lengths, the last of which ended three seconds ago."""
    of = host or Host.objects.filter(name="gpu-a01").first() or make_host("gpu-a01")
    stored = columns(*seconds, first_ms=now_ms - 3_000 - 1_000 * sum(seconds), **steps)
    return enter(of, stored, run=name, newest_sequence=newest_sequence, **(teller or {}))


def _measured(now_ms: int, n_devices: int = 1) -> tuple[Host, list[Device]]:
    """Return a host with so many devices, and two minutes of their samples."""
    host = make_host("gpu-a01")
    devices = [make_device(host, index) for index in range(n_devices)]
    times = [now_ms - 120_000 + 1_000 * n for n in range(120)]
    readings = {"power_draw_watts": 300.0, "gpu_utilization_ratio": 0.9}
    make_chunks(host, devices, times, {name: [[value] * 120] * n_devices for name, value in readings.items()}, ticks=60)
    return host, devices


def _two_on_one(now_ms: int) -> None:
    host, (device,) = _measured(now_ms)
    for rank in (0, 1):
        teller = {"rank": rank, "process": f"p{rank}", "devices": (device.uuid,), "description": FULL}
        told(now_ms, *[1.0] * 60, host=host, teller=teller, samples=[8.0] * 60, tokens=[8192.0] * 60, loss=[1.0] * 60)


def _ranks_with_holes(now_ms: int) -> None:
    host, devices = _measured(now_ms, 4)
    for rank, device in zip((0, 3, 17, MOST_RANKS - 1), devices, strict=True):
        about = {"rank": rank, "process": f"p{rank}", "devices": (device.uuid,), "world_size": 4, "description": FULL}
        told(now_ms, *[1.0 + rank % 3] * 60, host=host, teller=about, samples=[8.0] * 60, compute_seconds=[0.8] * 60)


def _alike(now_ms: int) -> None:
    for launch, user in (("l1", "ada"), ("l2", "ada"), ("l1", "bob"), ("l1", "")):
        told(now_ms, *[1.0] * 20, teller={"launch": launch, "user": user})


def _nonsense(now_ms: int) -> None:
    host, (device,) = _measured(now_ms)
    for number, about in enumerate(NONSENSE):
        teller = {"devices": (device.uuid,), "description": about, "owner": "<i>o</i>", "group": "g'\"%"}
        told(now_ms, *[1.0] * 30, name=f"run{number}", host=host, teller=teller)


def _host_gone(now_ms: int) -> None:
    host, (device,) = _measured(now_ms)
    told(now_ms, *[1.0] * 30, host=host, teller={"devices": (device.uuid,), "description": FULL}, samples=[8.0] * 30)
    host.delete()


_PHASES = {"a b/c": [0.1] * 40, "data": [NAN] * 40, "..": [2.0] * 40, "-": [0.0] * 40, "x" * 40: [1e-9] * 40}
RUNS: dict[str, OddRun] = {
    "one step": lambda now: told(now, 1.0),
    "one step that tells all": lambda now: told(
        now, 1.0, samples=[8.0], tokens=[8.0], loss=[1.0], compute_seconds=[0.5], teller={"description": FULL}
    ),
    "no samples": lambda now: told(
        now, *[1.0] * 40, samples=[0.0] * 40, tokens=[0.0] * 40, teller={"description": FULL}
    ),
    "no loss": lambda now: told(now, *[1.0] * 40, samples=[1.0] * 40),
    "NaN loss": lambda now: told(now, *[1.0] * 40, loss=[1.0] * 20 + [NAN] * 20),
    "huge loss": lambda now: told(now, *[1.0] * 40, loss=[1e299] * 40),
    "huge steps": lambda now: told(now, *[86_400.0] * 5, samples=[1.0] * 5),
    "tiny steps": lambda now: told(now, *[1e-6] * 500, samples=[1.0] * 500, compute_seconds=[1e-7] * 500),
    "huge amounts": lambda now: told(
        now, *[1.0] * 40, samples=[4.6e18] * 40, tokens=[4.6e18] * 40, teller={"description": FULL}
    ),
    "unknown devices": lambda now: told(
        now, *[1.0] * 40, samples=[8.0] * 40, teller={"devices": ("GPU-not-there", "99"), "description": FULL}
    ),
    "two ranks on one device": _two_on_one,
    "ranks with holes": _ranks_with_holes,
    "odd phases": lambda now: told(now, *[1.0] * 40, phases=_PHASES),
    "only warm-up": lambda now: told(now, *[1.0] * 40, is_warmup=[True] * 40, samples=[1.0] * 40),
    "no training": lambda now: told(now, *[1.0] * 12, kind=[1, 2, 3] * 4),
    "alike": _alike,
    "nonsense": _nonsense,
    "host gone": _host_gone,
    "frames lost": lambda now: told(now, *[1.0] * 3, newest_sequence=2**61),
    "one number": lambda now: told(now, *[1.0] * 40, number=[7] * 40, samples=[1.0] * 40),
    "ahead": lambda now: told(now + 5 * HOUR, *[1.0] * 40),
    "long ago": lambda now: told(100_000, *[1.0] * 40),
    "year 9999": lambda now: told(253_402_300_700_000, *[1.0] * 40),
}
