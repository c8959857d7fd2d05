"""What the harness makes of timings and losses, and what it refuses. No device."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace

import pytest
import torch

from training.flops import Flops
from training.reference import __main__ as program
from training.reference import harness, order
from training.reference.events import Events, StepSocket
from training.reference.harness import Measurement, WallClock
from training.reference.order import CannotRun, Order
from training.reference.work import falling

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
        loop = harness.Loop(replace(ORDER, params=params), work, device, frames.append, Events(writing))
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
    measurement = Measurement([2.0, 1.0], seconds=[0.1, 0.3], window_start=100.0, window_end=100.5)
    figures = harness.figures(measurement, CountingWork(), WallClock())
    assert figures["samples_per_second"] == pytest.approx(8 / 0.5)
    assert figures["tokens_per_second"] == pytest.approx(80 / 0.5)
    assert figures["achieved_flops_per_second"] == pytest.approx(800 / 0.5)
    assert figures["window_end_ms"] - figures["window_start_ms"] == 500


def test_median_and_p95_are_those_of_the_measured_steps():
    seconds = [float(n) for n in range(1, 21)]
    figures = harness.figures(Measurement([], seconds, 0.0, 210.0), CountingWork(), WallClock())
    assert figures["step_seconds_median"] == 10.5
    assert figures["step_seconds_p95"] == 19.0


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
