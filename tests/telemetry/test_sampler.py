"""The sampler and the batcher, with backends that a test steers."""

import threading
import time
from collections.abc import Callable

import pytest

from telemetry import wire
from telemetry.agent.backends.protocol import BackendUnavailable, DeviceReading
from telemetry.agent.batcher import Batcher
from telemetry.agent.sampler import Sampler, Tick
from telemetry.catalog import AbsentReason
from telemetry.wire import DeviceInfo, DeviceKind

PERIOD = 0.05


class SteeredBackend:
    def __init__(self, name: str, read: Callable[[], dict] = lambda: {"power_draw_watts": 300.0}) -> None:
        self.name, self._read = name, read
        self.opened = 0
        self.missing = False
        self.device = DeviceInfo(f"GPU-{name}", DeviceKind.NVIDIA, 0, "test device")

    def open(self) -> None:
        if self.missing:
            raise BackendUnavailable("no driver")
        self.opened += 1

    def read(self) -> list[DeviceReading]:
        return [DeviceReading(self.device, self._read())]

    def software(self) -> dict[str, str]:
        return {self.name: "1.0"}

    def close(self) -> None:
        pass


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)


@pytest.fixture
def running():
    started = []

    def run(*backends: SteeredBackend) -> Sampler:
        sampler = Sampler(backends, PERIOD)
        sampler.start()
        started.append(sampler)
        return sampler

    yield run
    for sampler in started:
        sampler.stop()


def gather(sampler: Sampler, count: int) -> list[Tick]:
    ticks: list[Tick] = []
    wait_for(lambda: ticks.extend(sampler.take()) or len(ticks) >= count)
    return ticks


def test_ticks_lie_on_one_grid(running):
    ticks = gather(running(SteeredBackend("a"), SteeredBackend("b")), 4)

    first = ticks[0].boot_seconds
    assert all(
        (tick.boot_seconds - first) / PERIOD == pytest.approx(round((tick.boot_seconds - first) / PERIOD), abs=1e-6)
        for tick in ticks
    )
    assert any(set(tick.readings) == {"GPU-a", "GPU-b"} for tick in ticks)


def test_a_backend_that_hangs_holds_up_nobody_and_is_said_to_hang(running):
    release = threading.Event()
    calls = iter(range(1000))
    hanging = SteeredBackend("hangs", lambda: {"power_draw_watts": 1.0} if next(calls) < 2 else release.wait() or {})
    sampler = running(hanging, SteeredBackend("works"))

    ticks: list[Tick] = []
    wait_for(
        lambda: (
            ticks.extend(sampler.take())
            or (ticks and AbsentReason.TIMEOUT in ticks[-1].readings.get("GPU-hangs", {}).values())
        )
    )

    assert ticks[-1].readings["GPU-works"] == {"power_draw_watts": 300.0}
    release.set()


def test_a_backend_that_raises_is_opened_again(running):
    calls = iter([1, 2])
    backend = SteeredBackend(
        "a", lambda: {"power_draw_watts": float(next(calls, 300))} if backend.opened > 1 else 1 / 0
    )

    ticks = gather(running(backend), 2)

    assert backend.opened == 2
    assert ticks[0].readings["GPU-a"]["power_draw_watts"] in {1.0, 2.0}


def test_a_backend_that_fails_to_open_is_tried_again(running):
    backend = SteeredBackend("a")
    opened = backend.open

    def open_second_time() -> None:
        opened()
        if backend.opened == 1:
            raise ValueError("an answer that nobody expected")

    backend.open = open_second_time
    gather(running(backend), 1)

    assert backend.opened == 2


def test_readings_that_came_too_late_for_their_tick_say_so(running):
    def slow() -> dict:
        time.sleep(PERIOD * 0.6)
        return {"power_draw_watts": 300.0}

    ticks = gather(running(SteeredBackend("a", slow)), 1)

    assert ticks[0].readings["GPU-a"] == {"gpu_utilization_ratio": AbsentReason.TIMEOUT}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_value_that_is_no_reading_becomes_unknown(running, value):
    ticks = gather(running(SteeredBackend("a", lambda: {"power_draw_watts": value})), 1)

    assert ticks[0].readings["GPU-a"] == {"power_draw_watts": AbsentReason.UNKNOWN}


def test_a_machine_without_the_driver_is_sampled_by_the_other_backends(running):
    without = SteeredBackend("nvml")
    without.missing = True

    ticks = gather(running(without, SteeredBackend("cpu")), 2)

    assert set(ticks[0].readings) == {"GPU-cpu"}


class RecordedSampler:
    """Gives the batcher ticks that a test made."""

    def __init__(self, *ticks: Tick) -> None:
        self._ticks = list(ticks)

    def take(self, *, everything: bool = False) -> list[Tick]:
        taken, self._ticks = self._ticks, []
        return taken

    def software(self) -> dict[str, str]:
        return {}

    def worst_lateness(self) -> float:
        return 0.0


def tick(boot: float, offset: float, watts: float = 300.0) -> Tick:
    device = DeviceInfo("GPU-a", DeviceKind.NVIDIA, 0, "test device")
    return Tick(
        boot,
        offset,
        {"GPU-a": device},
        {"GPU-a": {"power_draw_watts": watts, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED}},
    )


def batches_of(*ticks: Tick) -> list[wire.Batch]:
    sent: list[bytes] = []
    batcher = Batcher("gpu-a01", RecordedSampler(*ticks), sent.append, dict, period=5, sample_seconds=1)
    batcher.flush()
    return [wire.unpack(payload) for payload in sent]


def test_ticks_become_one_batch_with_times_values_and_reasons():
    (batch,) = batches_of(tick(10, 1000), tick(11, 1000, 310))

    assert batch.times_ms == [1_010_000, 1_011_000]
    assert batch.columns == {"power_draw_watts": [[300, 310]]}
    assert batch.absent == {"GPU-a": {"fan_speed_ratio": AbsentReason.NOT_SUPPORTED}}


def test_a_wall_clock_that_jumps_begins_a_new_segment():
    before, after = batches_of(tick(10, 1000), tick(11, 1000), tick(12, 400), tick(13, 400))

    assert (before.segment, after.segment) == (0, 1)
    assert after.times_ms == [412_000, 413_000]
    assert (before.sequence, after.sequence) == (0, 1)


def test_a_clock_that_is_slewed_stays_in_its_segment():
    batches = batches_of(*[tick(10 + n, 1000 + 0.01 * n) for n in range(50)])

    assert [batch.segment for batch in batches] == [0]


def test_two_starts_never_share_an_epoch():
    (first,), (second,) = batches_of(tick(10, 1000)), batches_of(tick(10, 1000))

    assert first.epoch != second.epoch
