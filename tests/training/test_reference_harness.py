"""What the harness makes of timings and losses, and what it refuses. No device."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from training.reference import __main__ as program
from training.reference import harness, order
from training.reference.events import Events, StepSocket
from training.reference.measurement import Measurement, Repeat, WallClock, figures, of_repeats
from training.reference.order import CannotRun, Order
from training.reference.work import falling
from training.utilisation.flops import Flops

ORDER = Order("gpt-train", {}, "cpu", "cpu-1", "", "reference gpt-train", "reference-1", "/nowhere")


class CountingWork:
    model, parameters, batch_size, tokens_per_sample = "counter", 1, 4, 10
    flops, data = Flops(100, "by hand"), "none"
    compute_seconds, is_common = None, False

    def __init__(self):
        self.steps = 0

    def step(self) -> float:
        self.steps += 1
        return 10.0 / self.steps

    def begin_measuring(self):
        self.measured_from = self.steps


class CountingDevice:
    """Takes down after which step it was waited for; compiles in the steps that it is told."""

    def __init__(self, work, compiles_in=()):
        self.work, self.compiles_in, self.synchronised = work, compiles_in, []

    def synchronise(self):
        self.synchronised.append(self.work.steps)

    def compilations(self):
        return sum(step <= self.work.steps for step in self.compiles_in)


def run_loop(params, compiles_in=()):
    """Return (measurement, frames, device, events)."""
    reading, writing = os.pipe()
    work, frames = CountingWork(), []
    device = CountingDevice(work, compiles_in)
    with os.fdopen(reading) as pipe, os.fdopen(writing, "w"):
        loop = harness.Loop(
            replace(ORDER, params={"repeats": 1} | params), work, device, frames.append, Events(writing)
        )
        measurement = loop.run()
        os.set_blocking(reading, False)
        return measurement, frames, device, [json.loads(line) for line in pipe]


def test_warm_up_steps_are_run_and_left_out_of_the_measurement():
    measurement, frames, _, _ = run_loop({"steps": 5, "warmup_steps": 3})
    assert len(measurement.seconds) == 5
    assert [frame["is_warmup"] for frame in frames] == [True] * 3 + [False] * 5


def test_every_step_waits_for_the_device_before_its_clock_is_read():
    _, _, device, _ = run_loop({"steps": 5, "warmup_steps": 1})
    assert set(device.synchronised) == {1, 2, 3, 4, 5, 6}


def test_a_works_own_figures_begin_with_the_measurement():
    _, _, device, _ = run_loop({"steps": 5, "warmup_steps": 3})
    assert device.work.measured_from == 3


def test_compiling_belongs_to_the_warm_up():
    measurement, *_ = run_loop({"steps": 5, "warmup_steps": 2}, compiles_in=(1, 2))
    assert measurement.first_seconds > 0
    with pytest.raises(CannotRun, match="something was compiled within the measured time"):
        run_loop({"steps": 5, "warmup_steps": 2}, compiles_in=(1, 4))


def test_progress_ends_with_the_last_step_and_stages_come_in_order():
    *_, events = run_loop({"steps": 5, "warmup_steps": 1})
    assert [event["name"] for event in events if event["event"] == "stage"] == ["warm up", "measure"]
    assert events[-1] == {"event": "progress", "step": 6, "total": 6}


def test_throughput_is_samples_over_the_window_not_over_the_sum_of_steps():
    found = figures(Measurement([2.0, 1.0], [Repeat(100.0, 100.5, [0.1, 0.3])]), CountingWork(), WallClock())
    assert found["samples_per_second"] == pytest.approx(8 / 0.5)
    assert found["tokens_per_second"] == pytest.approx(80 / 0.5)
    assert found["achieved_flops_per_second"] == pytest.approx(800 / 0.5)
    assert found["window_end_ms"] - found["window_start_ms"] == 500


def test_median_and_p95_are_those_of_the_measured_steps():
    seconds = [float(n) for n in range(1, 21)]
    found = figures(Measurement([], [Repeat(0.0, 210.0, seconds)]), CountingWork(), WallClock())
    assert found["step_seconds_median"] == 10.5
    assert found["step_seconds_p95"] == pytest.approx(np.quantile(seconds, 0.95))  # as runs have it


def test_a_block_is_measured_again_after_one_warm_up_and_told_which():
    measurement, frames, device, events = run_loop({"steps": 5, "warmup_steps": 2, "repeats": 3})
    assert [len(repeat.seconds) for repeat in measurement.repeats] == [5, 5, 5]
    assert [frame["is_warmup"] for frame in frames] == [True] * 2 + [False] * 15
    assert device.work.measured_from == 2
    stages = [event["name"] for event in events if event["event"] == "stage"]
    assert stages == ["warm up", "measure 1 of 3", "measure 2 of 3", "measure 3 of 3"]
    assert events[-1] == {"event": "progress", "step": 17, "total": 17}


def test_repeats_follow_each_other_without_a_gap_that_is_in_none():
    measurement, *_ = run_loop({"steps": 5, "warmup_steps": 1, "repeats": 3})
    first, second, third = measurement.repeats
    assert first.start < first.end <= second.start < second.end <= third.start < third.end
    assert measurement.window_seconds == third.end - first.start


def test_the_result_of_repeats_is_their_median_and_one_that_was_disturbed_decides_nothing():
    repeats = [Repeat(0.0, 4.0, [1.0] * 4), Repeat(4.0, 44.0, [10.0] * 4), Repeat(44.0, 49.0, [1.1] * 4)]
    measurement = Measurement([], repeats)
    found, of_each = figures(measurement, CountingWork(), WallClock(), 2), of_repeats(measurement, CountingWork(), 2)
    assert found["step_seconds_median"] == 1.1
    assert (found["samples"], found["measured_seconds"]) == (3 * 4 * 8, 49.0)
    assert of_each["repeat_samples_per_second"] == {"1": 8.0, "2": 0.8, "3": 6.4}
    assert of_each["repeat_step_seconds_median"] == {"1": 1.0, "2": 10.0, "3": 1.1}
    assert (of_each["repeats"], of_each["repeat_samples_per_second_median"]) == (3, 6.4)
    assert of_each["repeat_spread_ratio"] == pytest.approx((8.0 - 0.8) / 6.4)


def test_one_repeat_says_nothing_of_repeats():
    assert of_repeats(Measurement([], [Repeat(0.0, 1.0, [1.0])]), CountingWork()) == {}


def test_start_and_end_loss_are_means_over_the_same_batches():
    found = falling([8, 6, 7, 7, 4, 3, 2, 1])
    assert (found["loss_start"], found["loss_end"]) == (7, 2.5)


@pytest.mark.parametrize("values", [[1.0] * 8, [1, 1, 1, 1, 2, 2, 2, 2], [2.0] * 4 + [float("nan")] * 4])
def test_a_loss_that_does_not_fall_fails_the_job(values):
    with pytest.raises(CannotRun, match="the loss did not fall"):
        falling(values)


FRAME = {
    "run": "r", "launch": "l", "rank": 0, "number": 1, "ended_ns": 5, "seconds": 0.5, "device_uuid": "", "samples": 8,
    "tokens": None, "loss": 2.5, "is_warmup": False,
}  # fmt: skip


def test_frames_that_nobody_takes_are_counted(tmp_path):
    step_socket = StepSocket(str(tmp_path / "nobody.sock"))
    step_socket.send(FRAME)
    assert step_socket.dropped == 1


def test_a_listener_that_is_behind_never_blocks_the_loop(tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        step_socket = StepSocket(path)
        for _ in range(2_000):
            step_socket.send(FRAME)
        assert 0 < step_socket.dropped < 2_000
        before, told = step_socket.dropped, 0
        listener.setblocking(False)
        with ThreadPoolExecutor() as reader:
            ended = reader.submit(step_socket.close)
            while not ended.done():
                with suppress(BlockingIOError):
                    told += len(listener.recv(9_000)) > 0
        with suppress(BlockingIOError):
            while listener.recv(9_000):
                told += 1
    assert step_socket.dropped == before, "what waited went out at the end"
    assert told == 2_000 - before


def test_an_order_comes_back_whole_from_its_json():
    sent = replace(ORDER, params={"steps": 7})
    received = order.read(json.dumps(asdict(sent)))
    assert received.params["steps"] == 7
    assert received.params["seed"] == 1
    assert replace(received, params=sent.params) == sent


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"workload": "gpt-train"})])
def test_an_order_that_cannot_be_read_is_refused(text):
    with pytest.raises(CannotRun, match="the order cannot be read"):
        order.read(text)


def test_an_order_outside_the_catalogue_is_refused():
    with pytest.raises(CannotRun, match="steps: 1 is not between"):
        order.read(json.dumps(asdict(replace(ORDER, params={"steps": 1}))))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"),
    ],
)
def test_running_out_of_memory_is_named(error):
    assert program.reason_of(error).startswith("out of memory")
